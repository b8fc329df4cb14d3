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
def shop():
    with Business(":memory:", clock=ManualClock(START), worker=False) as biz:
        yield biz


def write(biz, count, **more):
    with biz.do():
        for n in range(count):
            biz.track.P(n=n, **more)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("overflow", KEPT)
def test_it_bounds_what_waits_of_what_comes_to_it_over_many_batches(shop, overflow, sealed):
    seen = []
    evens = shop.stream.track.P.filter(lambda e: e.n % 2 == 0)
    evens.buffer(2_500, overflow=overflow).to(lambda e: seen.append(e.n)).named("slow").start()
    write(shop, 10_000)
    if sealed:
        shop.store.segments.seal()
    shop.drain()
    assert seen == list(KEPT[overflow])
    assert len(evens.buffer(1, overflow).run().run()) == 5_000


def test_windows_before_it_lose_nothing(shop):
    seen = []
    counted = shop.stream.track.P.key_by("k").window.tumbling("1m").aggregate(n=shop.count())
    counted.buffer(2).to(lambda e: seen.append((e.k, e.n))).named("slow").start()
    for key in "abc":
        write(shop, 50, k=key)
    shop.drain()
    shop.store.clock.advance("5m")
    shop.drain()
    assert seen == [("b", 50), ("c", 50)]


def test_windows_after_it_hold_what_passed(shop):
    passed = shop.stream.track.P.filter(this.n >= 0).buffer(10, overflow="drop_newest").key_by("k")
    passed.window.tumbling("1m").aggregate(n=shop.count()).to.measure.n(value="n").named("n").start()
    write(shop, 50, k="a")
    shop.drain()
    shop.store.clock.advance("5m")
    shop.drain()
    assert shop.measure.n.sum().run() == 10


def test_what_waits_and_is_retracted_does_not_pass(shop):
    seen = []
    shop.stream.track.P.buffer(5).to(lambda e: seen.append(e.n)).named("slow").start()
    records = [shop.track.P(n=n) for n in range(3)]
    shop.retract(records[1].id)
    shop.drain()
    assert seen == [0, 2]
