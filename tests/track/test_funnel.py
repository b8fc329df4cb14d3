"""Funnels: the contract's words as a naive search per user, over thousands of small histories."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import permutations
from statistics import mean, median

import pytest

from bizcode import Business, InvalidQuery, InvalidTime, ManualClock

NOW = datetime(2024, 3, 10, tzinfo=UTC)
START = NOW - timedelta(hours=60)
WINDOW = timedelta(hours=10)


class History:
    def __init__(self, seed: int, path, users: int = 60) -> None:
        rng = self.rng = random.Random(seed)
        self.biz = Business(path, clock=ManualClock(NOW), worker=False)
        self.events: list[dict] = []
        drafts = []
        for n in range(users):
            for _ in range(rng.randrange(1, 9)):
                name = rng.choice("AABBCCDX")
                at = START + timedelta(hours=rng.randrange(60))
                data = {"user_id": f"u{n:02}", "p": rng.choice("xyz"), "cart": rng.choice([1, 1, 2])}
                if rng.random() < 0.1:
                    del data["p"]
                drafts.append({"event": name, "data": data, "at": at})
        rng.shuffle(drafts)
        for k, draft in enumerate(drafts):
            event = self.biz.track.batch([draft])[0]
            self.events.append(
                {"name": draft["event"], "t": draft["at"], "pos": event.position, **draft["data"]}
            )
            if k in (len(drafts) // 3, len(drafts) // 2):
                self.biz.store.segments.seal()
        self.merged = {"u00": "u01", "u02": "u03"}
        for alias, user in self.merged.items():
            self.biz.identify(alias, user)

    def by_user(self) -> dict[str, list[dict]]:
        found: dict[str, list[dict]] = {}
        for e in sorted(self.events, key=lambda e: (e["t"], e["pos"])):
            user = self.merged.get(e["user_id"], e["user_id"])
            found.setdefault(user, []).append(e)
        return found


def attempt(events, at, steps, *, window, strict=False, exclude=None):
    """The steps taken from the step-1 event at index `at`, each at its earliest match after the one before."""
    taken = [events[at]]
    stop = None
    for name in steps[1:]:
        if exclude and stop is None and len(taken) == exclude[1]:
            stop = next((e for e in events[events.index(taken[-1]) + 1 :] if e["name"] == exclude[0]), False)
        here = events.index(taken[-1])
        following = events[here + 1 : here + 2] if strict else events[here + 1 :]
        match = next((e for e in following if e["name"] == name), None)
        if match is None or match["t"] - taken[0]["t"] > window:
            break
        between = exclude and stop and exclude[1] <= len(taken) < exclude[2]
        if between and (stop["t"], stop["pos"]) < (match["t"], match["pos"]):
            break
        taken.append(match)
    return taken


def best(events, steps, *, since=None, window=WINDOW, **options):
    found = []
    for at, event in enumerate(events):
        if event["name"] == steps[0] and (since is None or event["t"] >= since):
            found.append(attempt(events, at, steps, window=window, **options))
    return max(found, key=len) if found else None


@pytest.fixture(params=range(6))
def history(request, tmp_path):
    made = History(request.param, tmp_path / "store")
    yield made
    made.biz.close()


def check(query, users: dict[str, list], steps, window=WINDOW):
    funnel = query.run()
    for n, step in enumerate(funnel.steps, 1):
        reached = {u: a for u, a in users.items() if len(a) >= n}
        assert step.count == len(reached)
        assert query.users(n).run() == sorted(reached)
        if n == 1:
            continue
        waiting = {u for u, a in users.items() if len(a) == n - 1 and a[0]["t"] + window >= NOW}
        assert step.in_progress == len(waiting)
        assert query.in_progress(n).run() == sorted(waiting)
        assert query.dropped(n).run() == sorted(set(users) - set(reached) - waiting)
        times = [a[n - 1]["t"] - a[n - 2]["t"] for a in reached.values()]
        if times:
            seconds = [t.total_seconds() for t in times]
            assert abs(step.avg_time.total_seconds() - mean(seconds)) < 0.001
            assert abs(step.median_time.total_seconds() - median(seconds)) < 0.001
        else:
            assert step.avg_time is None
        before = funnel.steps[n - 2].count
        assert step.rate == (step.count / before if before else 0.0)


STEPS = [["A", "B"], ["A", "B", "C"], ["A", "A", "B"], ["C", "B", "A", "D"]]


@pytest.mark.parametrize("steps", STEPS)
def test_ordered(history, steps):
    users = {u: best(es, steps) for u, es in history.by_user().items()}
    users = {u: a for u, a in users.items() if a}
    check(history.biz.track.funnel(steps).within("10h"), users, steps)


def test_without_a_window_nobody_is_in_progress(history):
    steps = ["A", "B", "C"]
    users = {u: best(es, steps, window=timedelta(days=999)) for u, es in history.by_user().items()}
    funnel = history.biz.track.funnel(steps).run()
    assert [s.count for s in funnel] == [sum(1 for a in users.values() if a and len(a) > n) for n in range(3)]
    assert [s.in_progress for s in funnel] == [0, 0, 0]


@pytest.mark.parametrize("steps", STEPS[:3])
def test_strict(history, steps):
    users = {u: best(es, steps, strict=True) for u, es in history.by_user().items()}
    users = {u: a for u, a in users.items() if a}
    check(history.biz.track.funnel(steps).within("10h").strict(), users, steps)


def test_since_bounds_the_first_step_only(history):
    steps, since = ["A", "B", "C"], START + timedelta(hours=30)
    users = {u: best(es, steps, since=since) for u, es in history.by_user().items()}
    users = {u: a for u, a in users.items() if a}
    check(history.biz.track.funnel(steps).within("10h").since(since), users, steps)


@pytest.mark.parametrize(("after", "before"), [(1, 2), (1, 3), (2, 3)])
def test_exclusion_ends_an_attempt(history, after, before):
    steps = ["A", "B", "C"]
    users = {u: best(es, steps, exclude=("X", after, before)) for u, es in history.by_user().items()}
    users = {u: a for u, a in users.items() if a}
    query = history.biz.track.funnel(steps).within("10h").exclude("X", after=after, before=before)
    check(query, users, steps)


def test_hold_splits_a_users_events_by_the_property(history):
    steps = ["A", "B", "C"]
    users = {}
    for user, events in history.by_user().items():
        found = [best([e for e in events if e["cart"] == cart], steps) for cart in (1, 2)]
        found = [a for a in found if a]
        if found:
            users[user] = min(found, key=lambda a: (-len(a), a[0]["t"], a[0]["pos"]))
    check(history.biz.track.funnel(steps).within("10h").hold("cart"), users, steps)


@pytest.mark.parametrize("attribution", ["first", "last", 2])
def test_split_by_a_property(history, attribution):
    steps = ["A", "B", "C"]
    groups: dict = {}
    for events in history.by_user().values():
        taken = best(events, steps)
        if not taken:
            continue
        if attribution == "first":
            key = taken[0].get("p")
        elif attribution == "last":
            key = taken[-1].get("p")
        else:
            key = taken[1].get("p") if len(taken) > 1 else None
        groups.setdefault(key, []).append(len(taken))
    found = history.biz.track.funnel(steps).within("10h").by("p", attribution=attribution).run()
    assert {key: [s.count for s in f] for key, f in found.items()} == {
        key: [sum(1 for n in levels if n > k) for k in range(3)] for key, levels in groups.items()
    }


def test_split_by_time_is_in_order_and_leaves_out_empty_buckets(history):
    steps = ["A", "B"]
    expected: dict = {}
    for events in history.by_user().values():
        taken = best(events, steps)
        if taken:
            day = taken[0]["t"].replace(hour=0)
            expected.setdefault(day, []).append(len(taken))
    found = history.biz.track.funnel(steps).within("10h").by("day").run()
    assert list(found) == sorted(expected)
    assert {d: f.steps[1].count for d, f in found.items()} == {
        d: sum(1 for n in levels if n > 1) for d, levels in expected.items()
    }


@pytest.mark.parametrize("steps", [["A", "B", "C"], ["A", "A", "B"], ["B", "A"]])
def test_unordered(history, steps):
    def level(events) -> int:
        reached = 0
        for k in range(1, len(steps) + 1):
            wanted = steps[:k]
            hit = any(
                all(e["name"] == n for e, n in zip(chosen, wanted, strict=True))
                and max(e["t"] for e in chosen) - min(e["t"] for e in chosen) <= WINDOW
                for chosen in permutations([e for e in events if e["name"] in wanted], k)
            )
            if not hit:
                break
            reached = k
        return reached

    levels = [level(events) for events in history.by_user().values()]
    funnel = history.biz.track.funnel(steps).within("10h").unordered().run()
    assert [s.count for s in funnel] == [sum(1 for n in levels if n > k) for k in range(len(steps))]


def test_optional_step_need_not_happen(biz):
    for user, names in {"u1": "AC", "u2": "ABC", "u3": "AB", "u4": "ACB", "u5": "B"}.items():
        for hour, name in enumerate(names):
            biz.track[name]({"user_id": user}, at=datetime(2024, 3, 1, hour, tzinfo=UTC))
    funnel = biz.track.funnel(["A", biz.step("B").optional(), "C"]).within("1d")
    assert [s.count for s in funnel.run()] == [4, 2, 3]
    assert funnel.users(2).run() == ["u2", "u3"]
    assert funnel.users(3).run() == ["u1", "u2", "u4"]
    assert funnel.run().steps[2].rate == 0.75


def test_one_event_serves_one_step_and_ties_go_by_position(biz):
    at = datetime(2024, 3, 1, tzinfo=UTC)
    biz.track.A({"user_id": "u1"}, at=at)
    assert [s.count for s in biz.track.funnel(["A", "A"]).within("1h").run()] == [1, 0]
    biz.track.A({"user_id": "u1"}, at=at)
    assert [s.count for s in biz.track.funnel(["A", "A"]).within("1h").run()] == [1, 1]
    biz.track.B({"user_id": "u2"}, at=at)
    biz.track.A({"user_id": "u2"}, at=at)
    assert biz.track.funnel(["A", "B"]).within("1h").users(2).run() == []


def test_the_windows_end_is_included(biz):
    at = datetime(2024, 3, 1, tzinfo=UTC)
    biz.track.A({"user_id": "u1"}, at=at)
    biz.track.B({"user_id": "u1"}, at=at + timedelta(hours=1))
    biz.track.A({"user_id": "u2"}, at=at)
    biz.track.B({"user_id": "u2"}, at=at + timedelta(hours=1, microseconds=1))
    assert biz.track.funnel(["A", "B"]).within("1h").users(2).run() == ["u1"]


def test_filters_by_mapping_and_by_function(biz):
    at = datetime(2024, 3, 1, tzinfo=UTC)
    for user, path in {"u1": "/pricing", "u2": "/", "u3": "/pricing"}.items():
        biz.track.PageView({"user_id": user, "path": path}, at=at)
        biz.track.Signup({"user_id": user}, at=at)
    for step in (
        biz.step("PageView").where(path="/pricing"),
        biz.step("PageView").where(lambda e: e.path == "/pricing"),
        biz.track.PageView.where(path="/pricing"),
    ):
        assert [s.count for s in biz.track.funnel([step, "Signup"]).run()] == [2, 2]


def test_warns_when_most_do_two_steps_the_other_way_round(biz):
    for user, names in {"u1": "BA", "u2": "BA", "u3": "AB"}.items():
        for hour, name in enumerate(names):
            biz.track[name]({"user_id": user}, at=datetime(2024, 3, 1, hour, tzinfo=UTC))
    assert "before 'A'" in biz.track.funnel(["A", "B"]).run().warnings[0]
    assert biz.track.funnel(["B", "A"]).run().warnings == []


def test_an_empty_business_has_an_empty_funnel(biz):
    funnel = biz.track.funnel(["A", "B"]).within("7d").run()
    assert [(s.count, s.rate, s.total_rate, s.avg_time) for s in funnel] == [(0, 0.0, 0.0, None)] * 2
    assert funnel.conversion == 0.0
    assert biz.track.funnel(["A"]).by("p").run() == {}


def test_refusals(biz):
    with pytest.raises(InvalidQuery, match="at least one step"):
        biz.track.funnel([])
    with pytest.raises(InvalidTime):
        biz.track.funnel(["A"]).within("0s")
    with pytest.raises(InvalidQuery, match="steps 1 to 2"):
        biz.track.funnel(["A", "B"]).users(3)
    with pytest.raises(InvalidQuery, match="attribution"):
        biz.track.funnel(["A", "B"]).by("p", attribution=3)
    with pytest.raises(InvalidQuery, match="between two steps"):
        biz.track.funnel(["A", "B"]).exclude("X", after=2, before=1)
    with pytest.raises(InvalidQuery, match="first step"):
        biz.track.funnel([biz.step("A").optional(), "B"])
    with pytest.raises(InvalidQuery):
        biz.track.funnel("A")


def test_a_condition_on_one_step_only_whatever_was_written_first(biz):
    for n in range(40):
        biz.track[("Other", "View", "Purchase")[n % 3]](user_id=f"u{n % 4}", plan="pro" if n % 2 else "free")
    first = biz.step("Purchase").where(plan="pro", user_id__in=["u1", "u2"])
    for steps in (["View", first], [first, "View"], [first, "Other", biz.step("View").where(plan="free")]):
        assert biz.track.funnel(steps).run().steps[0].count > 0


def test_users_whose_hashes_are_the_same_are_told_apart(history, monkeypatch):
    from bizcode.engine import facts

    query = history.biz.track.funnel(["A", "B", "C"]).within("10h").exclude("X", after=1, before=2).by("p")
    split, listed = query.run(), query.users(2).run()
    monkeypatch.setattr(facts, "HASH", "hash(length(u))")
    engine = history.biz.store.engine
    monkeypatch.setattr(engine, "facts", facts.Facts(engine.connection.cursor(), engine.schema))
    assert query.run() == split
    assert query.users(2).run() == listed


def test_the_counted_attempt_is_the_one_that_following_each_attempt_finds(history):
    from bizcode.engine import funnel as sql
    from bizcode.engine.ordered import each_attempt
    from bizcode.plan.sql import Parameters

    rng, biz = history.rng, history.biz
    for _ in range(25):
        steps = rng.choices("ABCD", k=rng.randrange(1, 5))
        query = biz.track.funnel(steps)
        if rng.random() < 0.8:
            query = query.within(f"{rng.choice([0, 3, 10, 40]) * 3600 + 1}s")
        if rng.random() < 0.4:
            query = query.since(START + timedelta(hours=rng.randrange(40)))
        if rng.random() < 0.3:
            query = query.hold("cart")
        while len(steps) > 1 and rng.random() < 0.5:
            after = rng.randrange(1, len(steps))
            query = query.exclude(
                rng.choice("XAC"), after=after, before=rng.randrange(after + 1, len(steps) + 1)
            )
        query = query.by("p", attribution=rng.choice(["first", "last", len(steps)]))
        with biz.store.engine.session() as session:
            parameters = Parameters()
            rows = sql.Rows(session, query.plan, parameters)
            rows.materialize(parameters)
            chained, _ = sql.attempts(session, query.plan, parameters, rows)
            wanted = ["u", "level", *(f"t{n}" for n in range(1, len(steps) + 1)), "g0"]
            ask = f"SELECT {', '.join(wanted)} FROM ({{}}) ORDER BY u"
            each = sql._best(rows, each_attempt(rows))
            assert session.fetch(ask.format(chained)) == session.fetch(ask.format(each)), query.plan


def test_an_unordered_attempt_that_starts_without_the_property_is_split_as_none(biz):
    biz.track.A(user_id="u")
    biz.track.A(user_id="u", plan="pro")
    biz.track.B(user_id="u", plan="pro")
    found = biz.track.funnel(["A", "B"]).within("1h").unordered().by("plan").run()
    assert {plan: [step.count for step in funnel] for plan, funnel in found.items()} == {None: [1, 1]}


@pytest.mark.parametrize("sealed", [False, True])
def test_unordered_steps_that_share_events_count_only_the_first_steps_of_the_range(biz, sealed):
    for at, n in (("2024-03-01T11:00", 0), ("2024-03-01T13:00", 1)):
        biz.track.Open({"user_id": "u", "n": n}, at=at)
    if sealed:
        biz.compact()
    asked = biz.track.funnel(["Open", biz.step("Open").where(n=1)]).unordered()
    assert [step.count for step in asked.run()] == [1, 1]
    # The only step-1 event of the range is the only one that step 2 could be.
    assert [step.count for step in asked.since("2024-03-01T12:00").run()] == [1, 0]


@pytest.mark.parametrize("given", [{"after": "1"}, {"after": 1.0}, {"after": True}, {"before": "C"}])
def test_an_exclusion_stands_between_steps_by_their_numbers(biz, given):
    with pytest.raises(InvalidQuery, match="between two steps of 1 to 3"):
        biz.track.funnel(["A", "B", "C"]).exclude("X", **given)


def test_the_step_whose_value_counts_is_kept_when_more_is_split_by(biz):
    for name, plan in (("A", "free"), ("B", "pro")):
        biz.track[name](user_id="u", plan=plan, source="ad")
    funnel = biz.track.funnel(["A", "B"])
    assert list(funnel.by("plan", attribution=2).by("source").run()) == [("pro", "ad")]
    assert list(funnel.by("source").by("plan", attribution="last").run()) == [("ad", "pro")]
    assert list(funnel.by("plan", attribution=2).by("source", attribution="first").run()) == [("free", "ad")]


def test_what_a_step_would_ignore_is_refused(biz):
    for given in (biz.track.A.since("7d"), biz.track.A.until("2024-01-01")):
        for ask in (
            lambda given: biz.track.funnel([given, "B"]),
            lambda given: biz.track.ratio("B", given),
            lambda given: biz.track.cohort(given, "B"),
        ):
            with pytest.raises(InvalidQuery, match="no range of its own"):
                ask(given)
    for given in (
        biz.track.A.count(),
        biz.track.A.sum("amount"),
        biz.track.A.events().limit(3),
        biz.track.A.by("p"),
    ):
        with pytest.raises(InvalidQuery, match="a step is an event's name"):
            biz.track.funnel([given, "B"])
    maybe = biz.step("A").optional()
    for ask in (
        lambda: biz.track.cohort(maybe, "B"),
        lambda: biz.track.cohort("B", maybe),
        lambda: biz.track.ratio(maybe, "B"),
        lambda: biz.track.funnel(["A", "B"]).exclude(maybe),
    ):
        with pytest.raises(InvalidQuery, match="only a step of a funnel can be optional"):
            ask()


def test_no_other_event_stands_between_strict_steps_that_share_a_property(biz):
    for user, events in {
        "u1": "A1 B1",
        "u2": "A1 A2 B1",
        "u3": "A1 X B1",
        "u4": "A1 B2",
        "u5": "A B1",
    }.items():
        for name, *cart in events.split():
            biz.track[name]({"user_id": user, **({"cart": int(cart[0])} if cart else {})})
    funnel = biz.track.funnel(["A", "B"]).hold("cart")
    assert funnel.users(1).run() == ["u1", "u2", "u3", "u4"]
    assert funnel.users(2).run() == ["u1", "u2", "u3"]
    assert funnel.strict().users(1).run() == ["u1", "u2", "u3", "u4"]
    assert funnel.strict().users(2).run() == ["u1"]
