"""Windows of a metric against statistics computed by hand."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from bizcode import Business, InvalidQuery, InvalidTime, InvalidValue, ManualClock

MINUTE = 60_000_000


def naive(samples, start, end):
    """(count, sum, avg, min, max, last) of the samples (time, value) of [start, end)."""
    found = [(t, n, v) for n, (t, v) in enumerate(samples) if start <= t < end]
    values = [v for _, _, v in found]
    if not values:
        return (0, 0, None, None, None, None)
    return (len(values), sum(values), sum(values) / len(values), min(values), max(values), max(found)[2])


def numbers(row):
    return (row.count, row.sum, row.avg, row.min, row.max, row.last)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slide", [None, "1m", "2m"])
def test_every_window_is_told_once_with_its_numbers(seed, slide):
    rng = random.Random(seed)
    clock = ManualClock("2024-03-10T12:00:30")
    with Business(":memory:", clock=clock, worker=False) as biz:
        told, samples = [], []
        biz.measure.x.window("5m", slide=slide).subscribe(told.append)
        begun = clock.now()
        for _ in range(60):
            for _ in range(rng.choice([0, 0, 1, 3])):
                samples.append((clock.now(), rng.randrange(100)))
                biz.measure.x(samples[-1][1])
            clock.advance(f"{rng.choice([10, 45, 130])}s")
            if rng.random() < 0.7:
                biz.drain()
        biz.drain()
        step = {None: 5, "1m": 1, "2m": 2}[slide] * MINUTE
        first = begun // step * step + step
        ends = list(range(first, clock.now() + 1, step))
        assert [int(row.end.timestamp() * 1e6) for row in told] == ends
        for row, end in zip(told, ends, strict=True):
            assert numbers(row) == pytest.approx(naive(samples, end - 5 * MINUTE, end))
            assert (row.end - row.start).total_seconds() == 300


def test_one_row_per_set_of_tags(biz, clock):
    told = []
    biz.measure.x.window("5m", by=["host"]).subscribe(told.append)
    for host, value in (("b", 1), ("a", 2), ("b", 3)):
        biz.measure.x(value, host=host)
    clock.advance("5m")
    biz.drain()
    assert [(row.host, row.sum, row.tags) for row in told] == [
        ("a", 2, {"host": "a"}),
        ("b", 4, {"host": "b"}),
    ]


def test_only_the_samples_that_meet_the_conditions(biz, clock):
    told = []
    biz.measure.x.where(plan="pro").window("1m").subscribe(told.append)
    for plan, value in (("pro", 1), ("free", 2)):
        biz.measure.x(value, plan=plan)
    clock.advance("1m")
    biz.drain()
    assert [row.sum for row in told] == [1]


def test_a_named_one_tells_what_ended_while_nothing_ran(tmp_path, clock):
    told = []
    for _ in range(3):
        with Business(tmp_path, clock=clock, worker=False) as biz:
            biz.measure.x.window("1m").subscribe(told.append, name="minutes")
            biz.measure.x(1)
            clock.advance("2m")
            if len(told) == 2:
                biz.drain()
                biz.drain()
            elif not told:
                biz.drain()
    assert [(row.end.minute, row.count) for row in told] == [(1, 1), (2, 0), (3, 1), (4, 0)]


def test_after_unsubscribing_nothing_is_told(biz, clock):
    told = []
    subscription = biz.measure.x.window("1m").subscribe(told.append)
    subscription.unsubscribe()
    clock.advance("1h")
    biz.drain()
    assert told == []


def test_refusals(biz):
    for arguments, error in (
        (("5m", "6m"), InvalidQuery),
        (("soon",), InvalidTime),
        (("1mo",), InvalidTime),
        (("0s",), InvalidTime),
    ):
        with pytest.raises(error):
            biz.measure.x.window(*arguments)
    with pytest.raises(InvalidValue):
        biz.measure.x.window("5m").subscribe("not a function")


def test_bounds_are_aware_and_in_the_business_timezone(clock):
    with Business(":memory:", clock=clock, worker=False, timezone="Asia/Kolkata") as biz:
        told = []
        biz.measure.x.window("1h").subscribe(told.append)
        clock.advance("1h")
        biz.drain()
        assert told[0].start == datetime(2024, 3, 10, 12, tzinfo=UTC)
        assert told[0].start.utcoffset().total_seconds() == 5.5 * 3600


def test_a_function_that_fails_does_not_hold_up_the_next_window(biz, clock):
    told = []

    def fails(row):
        told.append(row)
        raise OSError("down")

    biz.measure.x.window("1m").subscribe(fails)
    for _ in range(3):
        clock.advance("1m")
        biz.drain()
    assert [row.end.minute for row in told] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert [letter.attempts for letter in biz.dead_letters.list().run()] == [4, 4, 4]


def test_a_dead_letter_is_told_again_when_asked(biz, clock):
    told, broken = [], [True]

    def fails(row):
        if broken[0]:
            raise OSError("down")
        told.append((row.host, row.sum))

    biz.measure.x.window("1m", by="host").subscribe(fails)
    biz.measure.x(3, host="a")
    biz.measure.x(4, host="b")
    clock.advance("1m")
    biz.drain()
    first, _ = biz.dead_letters.list().run()
    biz.dead_letters.retry(first)
    biz.drain()
    assert (told, len(biz.dead_letters.list().run())) == ([], 2)
    broken[0] = False
    for letter in biz.dead_letters.list().run():
        biz.dead_letters.retry(letter)
    biz.drain()
    assert (sorted(told), biz.dead_letters.list().run()) == ([("a", 3), ("b", 4)], [])


def test_what_it_writes_commits_with_how_far_it_is(tmp_path, clock):
    with Business(tmp_path, clock=clock, worker=False) as biz:
        calls = []

        def count(row):
            calls.append(row)
            biz.track.Minute(n=row.count)
            if len(calls) == 1:
                raise OSError("once")

        biz.measure.x.window("1m").subscribe(count, name="minutes")
        biz.measure.x(1)
        clock.advance("1m")
        biz.drain()
        assert [e.n for e in biz.track.Minute.events().run()] == [1]
