"""What waits at a buffer, and what is dropped."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bizcode import Business, ManualClock, this

START = datetime(2024, 1, 1, tzinfo=UTC)
KEPT = {
    "drop_oldest": range(5_000, 10_000, 2),
    "drop_newest": range(0, 5_000, 2),
    "block": range(0, 10_000, 2),
}


@pytest.fixture
def biz():
    with Business(":memory:", clock=ManualClock(START), worker=False) as biz:
        yield biz


def write(biz, count, **more):
    with biz.do():
        for n in range(count):
            biz.track.P(n=n, **more)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("overflow", KEPT)
def test_it_bounds_what_waits_of_what_comes_to_it_over_many_batches(biz, overflow, sealed):
    seen = []
    evens = biz.stream.track.P.filter(lambda e: e.n % 2 == 0)
    evens.buffer(2_500, overflow=overflow).to(lambda e: seen.append(e.n)).named("slow").start()
    write(biz, 10_000)
    if sealed:
        biz.store.segments.seal()
    biz.drain()
    assert seen == list(KEPT[overflow])
    assert len(evens.buffer(1, overflow).run().run()) == 5_000


def test_windows_before_it_lose_nothing(biz):
    seen = []
    counted = biz.stream.track.P.key_by("k").window.tumbling("1m").aggregate(n=biz.count())
    counted.buffer(2).to(lambda e: seen.append((e.k, e.n))).named("slow").start()
    for key in "abc":
        write(biz, 50, k=key)
    biz.drain()
    biz.store.clock.advance("5m")
    biz.drain()
    assert seen == [("b", 50), ("c", 50)]


def test_windows_after_it_hold_what_passed(biz):
    passed = biz.stream.track.P.filter(this.n >= 0).buffer(10, overflow="drop_newest").key_by("k")
    passed.window.tumbling("1m").aggregate(n=biz.count()).to.measure.n(value="n").named("n").start()
    write(biz, 50, k="a")
    biz.drain()
    biz.store.clock.advance("5m")
    biz.drain()
    assert biz.measure.n.sum().run() == 10


def test_what_waits_and_is_retracted_does_not_pass(biz):
    seen = []
    biz.stream.track.P.buffer(5).to(lambda e: seen.append(e.n)).named("slow").start()
    records = [biz.track.P(n=n) for n in range(3)]
    biz.retract(records[1].id)
    biz.drain()
    assert seen == [0, 2]
