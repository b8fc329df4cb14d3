"""Rollups: the same answers as from the samples, retention, corrections, refusals."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode import (
    AlreadyExists,
    Business,
    InvalidQuery,
    InvalidTime,
    ManualClock,
    NotFound,
    this,
)

ALL = ["sum", "count", "avg", "min", "max", "last", "percentiles"]
NOW = datetime(2024, 3, 31, 9, 30, tzinfo=UTC)


def close(a, b):
    if isinstance(a, dict):
        return list(a) == list(b) and all(close(a[key], b[key]) for key in a)
    if hasattr(a, "previous"):
        return close(a.current, b.current) and close(a.previous, b.previous)
    return a == b or (None not in (a, b) and a == pytest.approx(b, rel=1e-9, abs=1e-9))


def questions(m):
    """Queries of every kind over ranges that buckets do and don't divide."""
    ranges = [
        lambda q: q,
        lambda q: q.since("week"),
        lambda q: q.since("40h"),
        lambda q: q.since("1mo"),
        lambda q: q.since("2024-03-03").until("2024-03-20T17:23"),
        lambda q: q.until("2024-03-25"),
    ]
    groups = [
        lambda q: q,
        lambda q: q.by("day"),
        lambda q: q.by("month", "plan"),
        lambda q: q.by("plan"),
        lambda q: q.where(plan="a"),
        lambda q: q.where(this.plan != "a", n__gte=1).by("n"),
    ]
    kinds = [m.sum, m.avg, m.count, m.min, m.max, m.last, m.current, m.median, lambda: m.rate("1h")]
    return [group(range_(kind())) for kind in kinds for range_ in ranges for group in groups]


samples = st.lists(
    st.tuples(
        st.integers(-3 * 24 * 60, 45 * 24 * 60),  # minutes ago; some are of the days to come
        st.one_of(st.integers(-50, 50), st.floats(-1e6, 1e6).map(lambda x: round(x, 3))),
        st.sampled_from([{}, {"plan": "a"}, {"plan": "b", "n": 1}, {"plan": "a", "n": 2.0}, {"n": None}]),
    ),
    max_size=25,
)


@settings(max_examples=12, deadline=None)
@given(
    first=samples,
    second=samples,
    third=samples,
    granularity=st.sampled_from([["hour", "day", "month"], ["minute", "week"], ["day"], ["week", "year"]]),
    taken=st.sets(st.integers(0, 20), max_size=4),
    seed=st.integers(0, 2**30),
)
def test_an_answer_from_rollups_is_the_one_of_the_samples(first, second, third, granularity, taken, seed):
    rng = random.Random(seed)
    with (
        Business(":memory:", clock=ManualClock(NOW), worker=False, timezone="Europe/Berlin") as biz,
        Business(":memory:", clock=ManualClock(NOW), worker=False, timezone="Europe/Berlin") as plain,
    ):
        written = []

        def write(rows):
            for minutes, value, tags in rows:
                at = NOW - timedelta(minutes=minutes)
                written.append([one.measure.x(value, tags, at=at, user="u") for one in (biz, plain)])

        write(first)
        biz.measure.x.rollup(granularity=granularity, aggregates=ALL)
        if rng.random() < 0.5:
            biz.drain()
        write(second)
        if rng.random() < 0.5:
            biz.store.segments.seal()
        if rng.random() < 0.7:
            biz.drain()
        for n in taken:
            if n < len(written):
                biz.retract(written[n][0].id)
                plain.retract(written[n][1].id)
        if rng.random() < 0.5:
            biz.drain()
        write(third)
        asked = list(zip(questions(biz.measure.x), questions(plain.measure.x), strict=True))
        for mine, theirs in rng.sample(asked, 30):
            assert close(mine.run(), theirs.run()), (mine.plan, mine.sql())


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_whatever_retention_leaves_answers_as_if_nothing_was_deleted(seed):
    """Samples new and late, deletions by the clock, seals and drains: what is still answered is the truth."""
    rng = random.Random(seed)
    granularity = rng.choice([["hour", "day", "month"], ["day", "week"], ["minute", "hour", "year"]])
    sources = [source for source in ["raw", *granularity[:-1]] if rng.random() < 0.8]
    lengths = {"raw": ["3h", "2d", "9d"], "minute": ["5h", "1d"], "hour": ["1d", "11d"], "day": ["3d", "20d"]}
    retention = {source: rng.choice(lengths[source]) for source in sources}
    clocks = [ManualClock(NOW - timedelta(days=30)) for _ in range(2)]
    with (
        Business(":memory:", clock=clocks[0], worker=False, timezone="Europe/Berlin") as biz,
        Business(":memory:", clock=clocks[1], worker=False, timezone="Europe/Berlin") as plain,
    ):
        answered = 0
        for step in range(12):
            for _ in range(rng.randrange(8)):
                value = rng.choice([rng.randrange(-50, 50), round(rng.uniform(-1e3, 1e3), 2)])
                tags = rng.choice([{}, {"plan": "a"}, {"plan": "b", "n": 1}])
                at = biz.now() + timedelta(minutes=rng.choice([0, 0, 90]) - int(rng.expovariate(1 / 2000)))
                for one in (biz, plain):
                    one.measure.x(value, tags, at=at)
            if step == 2:
                biz.measure.x.rollup(granularity=granularity, aggregates=ALL, retention=retention)
            if rng.random() < 0.3:
                biz.store.segments.seal()
            if rng.random() < 0.7:
                biz.drain()
            minutes = rng.choice([10, 61, 600, 3000])
            for clock in clocks:
                clock.advance(f"{minutes}m")
            if rng.random() < 0.5:
                biz.drain()
            asked = list(zip(questions(biz.measure.x), questions(plain.measure.x), strict=True))
            for mine, theirs in rng.sample(asked, 12):
                try:
                    found = mine.run()
                except InvalidQuery as error:
                    assert "raw" in retention
                    assert "no longer be answered exactly" in str(error)  # noqa: PT017
                    continue
                answered += 1
                if mine.plan.operation == "median":
                    continue
                assert close(found, theirs.run()), (mine.plan, mine.sql())
        assert answered or "raw" in retention
        assert biz.doctor().ok


def test_a_percentile_past_the_samples_is_within_one_percent():
    rng = np.random.default_rng(3)
    values = rng.lognormal(4, 1.5, 3000)
    with Business(":memory:", clock=ManualClock(NOW), worker=False) as biz:
        for n, value in enumerate(values):
            biz.measure.ms(float(value), {}, at=NOW - timedelta(minutes=n))
        biz.measure.ms.rollup(granularity="hour", aggregates="percentiles", retention={"raw": "6h"})
        exact = biz.measure.ms.percentile(99).run()
        biz.drain()
        assert biz.measure.ms.percentile(99).run() == pytest.approx(exact, rel=0.01)
        assert biz.measure.ms.median().run() == pytest.approx(np.median(values), rel=0.01)
        assert biz.measure.ms.count().run() == 3000
        recent = [v for n, v in enumerate(values) if n <= 150]
        assert biz.measure.ms.median().since("150m").run() == pytest.approx(np.median(recent))


@pytest.fixture
def kept(biz, clock):
    """60 days of hourly samples of 1, on two hosts, by day and month, samples for 7 days, days for 30."""
    start = clock.now() - 60 * 86_400_000_000
    for hour in range(60 * 24):
        biz.measure.x(1, {"host": "ab"[hour % 2]}, at=(start + hour * 3_600_000_000) / 1e6)
    biz.measure.x.rollup(
        granularity=["hour", "day", "month"], retention={"raw": "7d", "hour": "20d", "day": "30d"}
    )
    biz.drain()
    return biz


def test_retention_deletes_and_keeps_the_sums(kept):
    m = kept.measure.x
    assert len(m.events().run()) == 7 * 24
    assert (m.sum().run(), m.count().run(), m.avg().run(), m.max().run()) == (1440, 1440, 1.0, 1)
    info = m.rollup().info().run()
    assert info.cells == {"hour": 20 * 24, "day": 2 * 31, "month": 2 * 3}
    assert list(m.sum().by("month").run().values()) == [21 * 24 + 12, 29 * 24, 9 * 24 + 12]
    assert m.sum().where(host="a").run() == 720
    assert m.sum().by("host").since("2024-02-15").run() == {"a": 294, "b": 294}
    assert kept.doctor().ok


def test_what_was_sealed_is_deleted_from_the_files(biz, clock):
    for n in range(100):
        biz.measure.x(1000 + n, {}, id=f"s{n}", at=(clock.now() - n * 3_600_000_000) / 1e6)
    biz.store.segments.seal()
    biz.measure.x.rollup(granularity="hour", retention={"raw": "10h"})
    biz.drain()
    assert sum(s.rows for s in biz.store.segments.catalog().of("measure", "x")) == 11
    assert biz.store.segments.at(range(12, 101)) == []
    assert biz.measure.x.sum().run() == sum(1000 + n for n in range(100))
    assert biz.doctor().ok


@pytest.mark.parametrize("sealed", [True, False])
def test_an_id_stays_known_after_its_sample_is_deleted(biz, clock, sealed):
    old = (clock.now() - 50 * 3_600_000_000) / 1e6
    biz.measure.x(7, {}, id="a", at=old)
    if sealed:
        biz.store.segments.seal()
    biz.measure.x.rollup(granularity="hour", retention={"raw": "10h"})
    biz.drain()
    assert biz.measure.x.events().run() == []
    again = biz.measure.x(7, {}, id="a", at=old)
    assert (again.id, again.position) == ("a", 1)
    biz.drain()
    assert biz.measure.x.sum().run() == 7
    with pytest.raises(NotFound):
        biz.retract("a")


def test_retention_moves_with_the_clock_alone(biz, clock):
    biz.measure.x.rollup(granularity="hour", retention={"raw": "2h"})
    biz.measure.x(1)
    for _ in range(2):
        clock.advance("1h")
        biz.drain()
        assert len(biz.measure.x.events().run()) == 1
    clock.advance("1h")
    biz.drain()
    assert biz.measure.x.events().run() == []
    assert biz.measure.x.sum().run() == 1


def test_a_late_sample_corrects_its_bucket_and_goes_too(kept, clock):
    late = (clock.now() - 15 * 86_400_000_000) / 1e6
    kept.measure.x(100, {"host": "a"}, at=late)
    assert kept.measure.x.sum().run() == 1540
    clock.advance("1h")
    kept.drain()
    assert kept.measure.x.sum().run() == 1540
    assert kept.measure.x.max().since("2024-02-20").run() == 100
    assert all(s.value == 1 for s in kept.measure.x.events().run())


def test_what_only_samples_could_say_is_refused_once_they_are_gone(kept):
    m = kept.measure.x
    gone = [m.median(), m.stddev(), m.trend(), m.first(), m.unique(), m.sum().where(this.value > 0)]
    gone += [
        m.sum().by("user"),
        m.sum().until("2024-02-20T10:30"),
        m.sum().by("day"),
        m.sum().where(lambda e: True),
    ]
    for query in gone:
        with pytest.raises(InvalidQuery, match="no longer be answered exactly"):
            query.run()
    assert m.last().run() == 1
    with pytest.raises(InvalidQuery):
        m.last().until("2024-02-20").run()
    assert m.median().since("5d").run() == 1
    assert len(m.sum().since("2024-02-15").by("day").run()) == 25


def test_sql_names_the_source(kept):
    text = kept.measure.x.sum().since("30h").sql()
    assert "from the rollup of 'x' by hour" in text
    assert "from the rollup of 'x' by day" in text
    assert "rollup" not in kept.measure.x.stddev().since("1d").sql()
    assert "raw samples" in kept.measure.x.sum().since("90m").sql()


def test_the_running_buckets_are_read_whole_unless_samples_are_stamped_beyond_now(kept, clock):
    asked = kept.measure.x.sum().since("30h")
    assert "raw samples" not in asked.sql()
    before = asked.run()
    kept.measure.x(1000, {}, at=kept.now() + timedelta(minutes=1))
    assert asked.run() == before
    assert "raw samples" in asked.sql()
    assert (
        kept.measure.x.sum().since("month").run()
        == kept.measure.x.sum().since("month").by("day").run()[kept.now().replace(hour=0)]
        + kept.measure.x.sum().since("month").until("today").run()
    )


def test_retracting_and_forgetting_take_samples_out(biz):
    rows = [biz.measure.x(v, {"host": "a"}, user=u) for v, u in ((5, "u1"), (9, "u2"), (7, "u1"), (1, "u3"))]
    biz.measure.x.rollup(granularity=["hour", "day"], aggregates=ALL, retention={"raw": "30d"})
    biz.drain()
    biz.store.segments.seal()
    biz.retract(rows[1].id)
    ask = lambda m=biz.measure.x: [q.run() for q in (m.sum(), m.count(), m.max(), m.min(), m.last())]  # noqa: E731
    for _ in range(2):
        assert ask() == [13, 3, 7, 1, 1]
        biz.drain()
    biz.forget("u3")
    for _ in range(2):
        assert ask() == [12, 2, 7, 5, 7]
        biz.drain()
    biz.forget("u1")
    for _ in range(2):
        assert ask() == [0, 0, None, None, None]
        biz.drain()
    assert biz.measure.x.rollup().info().run().cells == {"hour": 0, "day": 0}


def test_extremes_are_found_anew_among_samples_with_other_tags(biz):
    rows = [
        biz.measure.x(v, t)
        for v, t in ((5, {"a": 1}), (9, {"a": 1}), (7, {"a": 1}), (8, {"a": 1, "b": 2}), (6, {}))
    ]
    biz.measure.x.rollup(granularity="day", aggregates=ALL)
    biz.drain()
    biz.retract(rows[1].id)
    top = biz.measure.x.max().where(a=1)
    for _ in range(2):
        assert (top.where(b={"exists": False}).run(), top.run(), biz.measure.x.max().run()) == (7, 8, 8)
        assert "rollup" in top.sql()
        biz.drain()


def test_users_are_no_tags_of_a_rollup(biz):
    for n in range(10):
        biz.measure.x(n, user_id=f"u{n}", plan="a")
    biz.measure.x.rollup(granularity="day")
    biz.drain()
    assert biz.measure.x.rollup().info().run().cells == {"day": 1}
    assert biz.measure.x.sum().where(user_id="u3").run() == 3
    assert "rollup" not in biz.measure.x.sum().where(user_id="u3").sql()


def test_only_some_tags_are_told_apart(biz):
    for n in range(6):
        biz.measure.x(n, host=f"h{n}", plan="ab"[n % 2])
    biz.measure.x.rollup(granularity="day", tags="plan")
    biz.drain()
    assert biz.measure.x.rollup().info().run().cells == {"day": 2}
    assert biz.measure.x.sum().by("plan").run() == {"b": 9, "a": 6}
    assert "rollup" in biz.measure.x.sum().by("plan").sql()
    assert len(biz.measure.x.sum().by("host").run()) == 6


def test_a_restarted_program_keeps_it_up_without_defining_it(tmp_path, clock):
    with Business(tmp_path, clock=clock, worker=False) as biz:
        biz.measure.x.rollup(granularity="hour", retention={"raw": "1h"})
        biz.measure.x(3)
    with Business(tmp_path, clock=clock, worker=False) as biz:
        clock.advance("3h")
        biz.drain()
        assert biz.measure.x.events().run() == []
        assert biz.measure.x.sum().run() == 3
        biz.measure.x.rollup(granularity="hour", retention={"raw": "1h"})
        assert biz.measure.x.rollup().info().run().cells == {"hour": 1}


def test_by_hand_one_step_up(kept):
    m = kept.measure.x
    assert m.rollup(from_="hour", to="day") == 2 * 21 - 2
    assert m.rollup(from_="day", to="week") > 0
    assert m.rollup().info().run().granularity == ("hour", "day", "week", "month")
    assert m.sum().run() == 1440
    kept.measure.x(1, host="a")
    kept.drain()
    assert list(m.sum().since("2024-02-19").by("week").run().values()) == [168, 168, 157]
    kept.measure.x.rollup(
        granularity=["hour", "day", "month"], retention={"raw": "7d", "hour": "20d", "day": "30d"}
    )
    for from_, to, error in (
        ("minute", "quarter", InvalidQuery),
        ("week", "month", InvalidQuery),
        ("day", "hour", InvalidQuery),
        ("hour", None, InvalidQuery),
    ):
        with pytest.raises(error):
            m.rollup(from_=from_, to=to)
    with pytest.raises(NotFound):
        kept.measure.y.rollup(from_="hour", to="day")


def test_a_step_from_a_granularity_that_is_not_kept_brings_the_coarser_one_up_to_date(biz):
    biz.measure.x.rollup(granularity=["hour", "day"], aggregates=["sum"])
    biz.measure.x(3)
    assert biz.measure.rollups().run()[0].cells == {"hour": 0, "day": 0}
    assert biz.measure.x.rollup(from_="minute", to="hour") == 0
    assert biz.measure.rollups().run()[0].cells == {"hour": 1, "day": 1}


def test_refusals(biz):
    m = biz.measure.x
    good = dict(granularity=["hour", "day"], aggregates=["sum"], retention={"raw": "7d"})
    for change, error in (
        (dict(granularity=["fortnight"]), InvalidQuery),
        (dict(granularity=[]), InvalidQuery),
        (dict(granularity=7), InvalidQuery),
        (dict(aggregates=["stddev"]), InvalidQuery),
        (dict(retention={"hour": "30m"}), InvalidQuery),
        (dict(retention={"day": "23h"}), InvalidQuery),
        (dict(retention={"month": "1y"}), InvalidQuery),
        (dict(retention={"raw": "soon"}), InvalidTime),
        (dict(retention="7d"), InvalidQuery),
        (dict(tags=[1]), InvalidQuery),
    ):
        with pytest.raises(error):
            m.rollup(**{**good, **change})
    with pytest.raises(NotFound):
        m.rollup()
    m.rollup(**good)
    m.rollup(**{**good, "granularity": ["day", "hour"], "retention": {"raw": "168h"}})
    with pytest.raises(AlreadyExists):
        m.rollup(**{**good, "aggregates": ["sum", "max"]})
    assert [info.metric for info in biz.measure.rollups().run()] == ["x"]
    m.rollup().drop()
    m.rollup(**{**good, "aggregates": ["sum", "max"]})


def test_a_counter_and_its_rate(biz, clock):
    start = clock.now()
    for hour in range(48):
        biz.measure.hits.increment(2, {}, at=(start - hour * 3_600_000_000) / 1e6)
    biz.measure.hits.rollup(granularity="hour", aggregates="sum", retention={"raw": "5h"})
    rate, current = biz.measure.hits.rate("1h"), biz.measure.hits.current()
    before = (rate.run(), current.run())
    biz.drain()
    assert (rate.run(), current.run()) == before == (96 / 47, 96)


def test_writes_of_an_open_transaction_are_seen(biz):
    biz.measure.x(1)
    biz.measure.x.rollup(granularity="day")
    biz.drain()
    with biz.do():
        biz.measure.x(2)
        assert biz.measure.x.sum().run() == 3
    assert biz.measure.x.sum().run() == 3


def test_a_rollup_keeps_the_calendar_it_was_defined_by(tmp_path, clock):
    with Business(tmp_path, clock=clock, worker=False, timezone="Europe/Berlin") as biz:
        for hour in range(100):
            biz.measure.x(1, {}, at=(clock.now() - hour * 3_600_000_000) / 1e6)
        biz.measure.x.rollup(granularity=["day", "month"])
        biz.drain()
    with Business(tmp_path, clock=clock, worker=False, timezone="Asia/Kolkata") as biz:
        biz.measure.x(1)
        biz.drain()
        assert biz.measure.x.sum().run() == 101
        assert list(biz.measure.x.sum().by("day").run().values()) == [10, 24, 24, 24, 19]
        assert "rollup" not in biz.measure.x.sum().by("day").sql()


def test_a_dropped_rollup_is_filled_anew(biz):
    biz.measure.x(5)
    for aggregates in ("sum", "max"):
        biz.measure.x.rollup(granularity="day", aggregates=aggregates)
        biz.drain()
        assert biz.measure.x.rollup().info().run().cells == {"day": 1}
        biz.measure.x.rollup().drop()
    assert biz.measure.x.sum().run() == 5


def test_another_process_that_keeps_it_is_waited_for(tmp_path, clock):
    from bizcode.consume.lease import lease

    with Business(tmp_path, clock=clock, worker=False) as biz:
        biz.measure.x(1, {}, at="2024-03-01")
        biz.measure.x.rollup(granularity="hour", retention={"raw": "1h"})
        with lease(biz.store.log.locks, "rollup:x") as mine:
            assert mine
            biz.drain()
            assert len(biz.measure.x.events().run()) == 1
        clock.advance("2s")
        biz.drain()
        assert biz.measure.x.events().run() == []


def test_the_worker_keeps_it_up(tmp_path):
    import time

    with Business(tmp_path) as biz:
        biz.measure.x(7, {}, at=biz.now() - timedelta(hours=3))
        biz.measure.x.rollup(granularity=["minute", "day"], retention={"raw": "1h"})
        for n in range(300):
            biz.measure.x(n)
        end = time.monotonic() + 20
        while biz.measure.x.events().until("2h").run() and time.monotonic() < end:
            biz.store.log.wait(biz.store.log.changes(), 0.05)
        assert biz.measure.x.events().until("2h").run() == []
        assert biz.measure.x.sum().run() == 299 * 150 + 7


def test_a_killed_process_leaves_each_sample_counted_once(tmp_path):
    """Filled in small batches by processes that are killed at any moment."""
    import subprocess
    import sys
    import time
    from pathlib import Path

    import bizcode
    from bizcode.record import Draft

    rng = random.Random(1)
    with Business(tmp_path, worker=False) as biz:
        for start in range(0, 30_000, 5_000):
            drafts = [
                Draft(
                    "measure",
                    "x",
                    1_700_000_000_000_000 + n * 60_000_000,
                    f'{{"h":"{n % 3}"}}',
                    value=n % 100 / 4,
                )
                for n in range(start, start + 5_000)
            ]
            biz.store.log.append(drafts)
        biz.measure.x.rollup(granularity=["hour", "month"], aggregates=ALL)
        expected = sum(n % 100 / 4 for n in range(30_000))
    code = f"from bizcode import Business; b = Business({str(tmp_path)!r}, worker=False); print(1, flush=True); b.drain(); print(2)"
    env = {"PYTHONPATH": str(Path(bizcode.__file__).parents[1])}
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.3)
            process.kill()
    with Business(tmp_path, worker=False) as biz:
        assert biz.measure.x.sum().run() == expected
        biz.drain()
        assert (biz.measure.x.sum().run(), biz.measure.x.count().run()) == (expected, 30_000)
        assert "rollup" in biz.measure.x.sum().sql()
