"""Cohorts against a naive count per user, over random histories in several time zones."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bizcode import Business, InvalidQuery, ManualClock, when

NOW = datetime(2024, 5, 2, 15, tzinfo=UTC)


class History:
    def __init__(self, seed: int, timezone: str, path) -> None:
        rng = random.Random(seed)
        self.tz = ZoneInfo(timezone)
        self.biz = Business(path, clock=ManualClock(NOW), timezone=timezone, worker=False)
        self.events = []
        drafts = []
        for n in range(50):
            for _ in range(rng.randrange(1, 10)):
                at = NOW - timedelta(minutes=rng.randrange(100 * 24 * 60))
                data = {"user_id": f"u{n}", "plan": rng.choice(["a", "b"]), "amount": rng.randrange(20)}
                drafts.append({"event": rng.choice(["S", "P", "P"]), "data": data, "at": at})
        for k, draft in enumerate(drafts):
            event = self.biz.track.batch([draft])[0]
            self.events.append(
                {"name": draft["event"], "t": draft["at"], "pos": event.position, **draft["data"]}
            )
            if k == len(drafts) // 2:
                self.biz.store.segments.seal()

    def bucket(self, at: datetime, unit: str) -> int:
        return when.bucket(when.instant(at, self.tz), unit, self.tz)


def naive(
    history, *, anchor, activity, periods, unit, least=1, rolling=None, later=False, recurring=False, by=None
):
    users: dict[str, list[dict]] = {}
    for e in sorted(history.events, key=lambda e: (e["t"], e["pos"])):
        users.setdefault(e["user_id"], []).append(e)
    tables: dict = {}
    for events in users.values():
        anchors = [e for e in events if e["name"] == anchor]
        if not recurring:
            anchors = anchors[:1]
        firsts = {}
        for e in anchors:
            firsts.setdefault(history.bucket(e["t"], unit), e)
        for start, first in firsts.items():
            key = first[by] if by else None
            cohort = tables.setdefault(key, {}).setdefault(
                start, {"size": 0, "active": [0] * periods, "sum": [0] * periods, "earliest": first["t"]}
            )
            cohort["size"] += 1
            cohort["earliest"] = min(cohort["earliest"], first["t"])
            counts: dict[int, int] = {}
            for e in events:
                if e["t"] < first["t"] or (activity != "*" and e["name"] != activity):
                    continue
                if rolling:
                    k = (e["t"] - first["t"]) // rolling
                else:
                    k, at = 0, start
                    while when.next_bucket(at, unit, history.tz) <= when.instant(e["t"], history.tz):
                        at, k = when.next_bucket(at, unit, history.tz), k + 1
                counts[k] = counts.get(k, 0) + 1
                if k < periods:
                    cohort["sum"][k] += e["amount"]
            active = {k for k, n in counts.items() if n >= least}
            for k in range(periods):
                if k in active or (later and any(j > k for j in active)):
                    cohort["active"][k] += 1
    return tables


@pytest.fixture(params=[(1, "UTC"), (2, "Europe/Berlin"), (3, "America/New_York")])
def history(request, tmp_path):
    made = History(*request.param, tmp_path / "store")
    yield made
    made.biz.close()


def check(history, found, expected, unit, rolling=None):
    now = when.instant(NOW, history.tz)
    assert [when.instant(c.start, history.tz) for c in found] == sorted(expected)
    for cohort in found:
        start = when.instant(cohort.start, history.tz)
        want = expected[start]
        assert cohort.size == want["size"]
        at = start
        for k, count in enumerate(cohort.counts):
            begins = when.instant(want["earliest"] + k * rolling, history.tz) if rolling else at
            if begins > now:
                assert count is None
                assert cohort.retention[k] is None
            else:
                assert count == want["active"][k]
                assert cohort.retention[k] == want["active"][k] / want["size"]
                if cohort.values is not None:
                    assert cohort.values[k] == want["sum"][k]
            at = when.next_bucket(at, unit, history.tz)


@pytest.mark.parametrize("unit", ["day", "week", "month", "quarter"])
def test_calendar_cohorts(history, unit):
    expected = naive(history, anchor="S", activity="P", periods=6, unit=unit)[None]
    query = history.biz.track.cohort(anchor="S", activity="P", periods=6, granularity=unit).sum("amount")
    check(history, query.run(), expected, unit)


def test_any_activity_counts_the_anchor_itself(history):
    expected = naive(history, anchor="S", activity="*", periods=4, unit="week")[None]
    found = history.biz.track.cohort(anchor="S", activity="*", periods=4).run()
    check(history, found, expected, "week")
    assert all(cohort.retention[0] == 1.0 for cohort in found)


def test_rolling_periods(history):
    expected = naive(history, anchor="S", activity="P", periods=5, unit="week", rolling=timedelta(weeks=1))[
        None
    ]
    query = history.biz.track.cohort(anchor="S", activity="P", periods=5).rolling()
    check(history, query.run(), expected, "week", rolling=timedelta(weeks=1))


def test_on_or_after_and_min_count(history):
    expected = naive(history, anchor="S", activity="P", periods=5, unit="week", least=2, later=True)[None]
    query = history.biz.track.cohort(anchor="S", activity="P", periods=5, min_count=2).on_or_after()
    check(history, query.run(), expected, "week")


def test_recurring_anchors(history):
    expected = naive(history, anchor="P", activity="S", periods=5, unit="week", recurring=True)[None]
    query = history.biz.track.cohort(anchor="P", activity="S", periods=5, anchor_kind="recurring")
    check(history, query.run(), expected, "week")


def test_split_by_a_property_of_the_anchor(history):
    expected = naive(history, anchor="S", activity="P", periods=5, unit="month", by="plan")
    found = (
        history.biz.track.cohort(anchor="S", activity="P", periods=5, granularity="month").by("plan").run()
    )
    assert set(found) == set(expected)
    for key, cohorts in found.items():
        check(history, cohorts, expected[key], "month")


def test_since_bounds_the_first_anchor_of_all_history(biz):
    biz.track.S({"user_id": "old"}, at="2024-01-01")
    biz.track.S({"user_id": "old"}, at="2024-03-05")
    biz.track.S({"user_id": "new"}, at="2024-03-05")
    assert [c.size for c in biz.track.cohort(anchor="S", activity="S").since("2024-03-01").run()] == [1]


def test_filters_in_anchor_and_activity(biz):
    biz.track.S({"user_id": "u1", "plan": "pro"}, at="2024-03-05")
    biz.track.S({"user_id": "u2", "plan": "free"}, at="2024-03-05")
    biz.track.P({"user_id": "u1", "amount": 5}, at="2024-03-05")
    big = biz.step("P").where(amount__gte=5)
    pro = biz.step("S").where(lambda e: e.plan == "pro")
    cohorts = biz.track.cohort(anchor=pro, activity=big, periods=1).run()
    assert [(c.size, c.counts) for c in cohorts] == [(1, [1])]


def test_rolling_months_end_on_the_months_last_day(biz):
    biz.track.S({"user_id": "u1"}, at="2024-01-31T10:00")
    biz.track.P({"user_id": "u1"}, at="2024-02-29T10:00")
    cohorts = biz.track.cohort(anchor="S", activity="P", periods=3, granularity="month").rolling().run()
    assert cohorts[0].counts == [0, 1, None]


def test_an_empty_business_has_no_cohorts(biz):
    assert list(biz.track.cohort(anchor="S", activity="P").run()) == []


def test_refusals(biz):
    with pytest.raises(InvalidQuery, match="granularity"):
        biz.track.cohort(anchor="S", activity="P", granularity="fortnight")
    with pytest.raises(InvalidQuery, match="periods"):
        biz.track.cohort(anchor="S", activity="P", periods=0)
    with pytest.raises(InvalidQuery, match="anchor_kind"):
        biz.track.cohort(anchor="S", activity="P", anchor_kind="last")


def test_a_range_bounds_each_recurring_anchor_and_else_the_first_of_all_history(biz):
    for day in ("2024-03-05", "2024-03-07"):
        biz.track.Visit({"user_id": "u"}, at=day)
    asked = biz.track.cohort(anchor="Visit", activity="Visit", periods=1).since("2024-03-06")
    assert asked.run().cohorts == []
    recurring = biz.track.cohort(anchor="Visit", activity="Visit", periods=1, anchor_kind="recurring")
    assert [(c.size, c.counts) for c in recurring.since("2024-03-06").run()] == [(1, [1])]
    assert recurring.since("2024-03-06").until("2024-03-07").run().cohorts == []
