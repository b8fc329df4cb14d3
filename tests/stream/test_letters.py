"""Dead letters of streams are taken up again where they failed, each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bizcode import Business, ManualClock

START = datetime(2024, 1, 1, tzinfo=UTC)


class Fault:
    """Raises for a value of 2 until it is mended."""

    def __init__(self):
        self.there = True
        self.calls = []

    def __call__(self, value):
        self.calls.append(value)
        if self.there and value == 2:
            raise ValueError("no")
        return value


@pytest.fixture
def shop():
    clock = ManualClock(START)
    with Business(":memory:", clock=clock, worker=False) as biz:
        yield biz, clock


def take_up(biz, fault):
    """Retry all letters, once in vain and once mended; none is left."""
    letters = biz.dead_letters.list().run()
    assert letters
    for letter in letters:
        biz.dead_letters.retry(letter.id)
    biz.drain()
    assert [letter.id for letter in biz.dead_letters.list().run()] == [letter.id for letter in letters]
    fault.there = False
    for letter in letters:
        biz.dead_letters.retry(letter)
    biz.drain()
    assert biz.dead_letters.list().run() == []
    assert sum(stream.dead for stream in biz.stream.list().run()) == 0


STEPS = {
    "map": lambda s, f: s.map(lambda e: {"v": f(e.v)}),
    "flat_map": lambda s, f: s.flat_map(lambda e: [{"v": f(e.v)}]),
    "filter": lambda s, f: s.filter(lambda e: f(e.v) > 0),
    "enrich": lambda s, f: s.enrich(lambda e, biz: {"v": f(e.v)}),
    "key_by": lambda s, f: s.key_by(lambda e: f(e.v)),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_element_goes_on_from_the_step_that_failed(shop, step):
    biz, _ = shop
    fault = Fault()
    STEPS[step](biz.stream.track.P, fault).to.track.Q.to.measure.q(value="v").named("q").start()
    for v in (1, 2, 3):
        biz.track.P(v=v)
    biz.drain()
    assert biz.measure.q.sum().run() == 4
    take_up(biz, fault)
    assert biz.measure.q.sum().run() == 6
    assert biz.track.Q.count().run() == 3


def test_only_the_sink_that_failed_is_written_again(shop):
    biz, _ = shop
    fault, seen = Fault(), []
    first = biz.stream.track.P.to.track.Q.to(lambda e: fault(e.v) and seen.append(e.v))
    first.to.measure.q(value="v").named("q").start()
    for v in (1, 2, 3):
        biz.track.P(v=v)
    biz.drain()
    assert (biz.track.Q.count().run(), biz.measure.q.sum().run(), seen) == (3, 6, [1, 3])
    take_up(biz, fault)
    assert (biz.track.Q.count().run(), biz.measure.q.sum().run(), seen) == (3, 6, [1, 3, 2])


def test_two_failures_of_one_record_are_two_letters(shop):
    biz, _ = shop
    fault = Fault()
    biz.stream.track.P.to(lambda e: fault(e.v)).to(lambda e: fault(e.v)).to.track.Q.named("q").start()
    biz.track.P(v=2)
    biz.drain()
    assert len(biz.dead_letters.list(consumer="q").run()) == 2
    take_up(biz, fault)
    assert biz.track.Q.count().run() == 1


@pytest.mark.parametrize("late", ["0s", "1h"])
def test_a_window_whose_fold_failed_is_folded_again(shop, late):
    biz, clock = shop
    fault = Fault()
    windows = biz.stream.track.P.lateness(late).key_by("k").window.tumbling("1m")
    folded = windows.reduce(lambda state, e: {"v": state["v"] + fault(e.v)}, {"v": 0})
    folded.to.measure.q(value="v").named("q").start()
    for v in (1, 2, 3):
        biz.track.P(k="a", v=v)
    biz.drain()
    clock.advance("3m")
    biz.drain()
    assert biz.measure.q.count().run() == 0
    take_up(biz, fault)
    assert biz.measure.q.sum().run() == 6


def test_a_running_fold_takes_an_element_that_failed(shop):
    biz, _ = shop
    fault = Fault()
    biz.stream.track.P.key_by("k").reduce(lambda s, e: s + fault(e.v), 0).to.view.sums.named("q").start()
    for v in (1, 2, 3):
        biz.track.P(k="a", v=v)
    biz.drain()
    assert biz.view.sums.get("a").run().value == 4
    take_up(biz, fault)
    assert biz.view.sums.get("a").run().value == 6


def test_a_pair_whose_function_failed_is_made_again(shop):
    biz, _ = shop
    fault = Fault()
    left, right = biz.stream.track.L.key_by("k"), biz.stream.track.R.key_by("k")
    pairs = left.join(right).within("1m").on(lambda a, b: {"v": fault(a.v), "at": a.timestamp.isoformat()})
    pairs.to.track.Q.named("q").start()
    for name in "LR":
        biz.track[name](k=1, v=2)
    biz.drain()
    take_up(biz, fault)
    assert [(e.v, e.at) for e in biz.track.Q.events().run()] == [(2, START.isoformat())]


def test_a_cluster_whose_function_failed_is_made_again(shop):
    biz, clock = shop
    fault = Fault()
    left, right = biz.stream.track.L.key_by("k"), biz.stream.track.R.key_by("k")
    groups = left.co_group(right).within("1m").on(lambda a, b: {"v": fault(a[0].v), "n": len(a), "m": len(b)})
    groups.to.track.Q.named("q").start()
    for v in (2, 3):
        biz.track.L(k=1, v=v)
    biz.drain()
    clock.advance("5m")
    biz.drain()
    take_up(biz, fault)
    assert [(e.v, e.n, e.m) for e in biz.track.Q.events().run()] == [(2, 2, 0)]


def test_what_fails_before_a_join_is_the_streams_own_letter(shop):
    biz, _ = shop
    fault = Fault()
    left = biz.stream.track.L.map(lambda e: {"k": e.k, "v": fault(e.v)}).key_by("k")
    left.join(biz.stream.track.R.key_by("k")).within("1m").on(lambda a, b: {"v": a.v}).to.track.Q.named(
        "q"
    ).start()
    for name in "LR":
        biz.track[name](k=1, v=2)
    biz.drain()
    assert [letter.record.v for letter in biz.dead_letters.list(consumer="q").run()] == [2]
    take_up(biz, fault)
    assert [e.v for e in biz.track.Q.events().run()] == [2]


def test_the_letter_of_a_result_goes_when_the_result_is_corrected(shop):
    biz, _ = shop
    fault = Fault()
    windows = biz.stream.track.P.lateness("1h").key_by("k").window.tumbling("1m").aggregate(v=biz.sum("v"))
    windows.to(lambda e: fault(e.v)).map(lambda e: {"v": fault(e.v)}).to.measure.q(value="v").named(
        "q"
    ).start()
    biz.track.P({"k": "a", "v": 2}, at=START)
    biz.track.P({"k": "b", "v": 1}, at=START + timedelta(minutes=2))
    biz.drain()
    assert len(biz.dead_letters.list().run()) == 2
    biz.track.P({"k": "a", "v": 3}, at=START)
    biz.drain()
    assert biz.dead_letters.list().run() == []
    assert biz.measure.q.sum().run() == 5


def test_a_letter_is_taken_up_by_the_next_process(tmp_path):
    clock = ManualClock(START)
    fault = Fault()
    for there in (True, False):
        fault.there = there
        with Business(tmp_path, clock=clock, worker=False) as biz:
            windows = biz.stream.Order.created.key_by("entity").window.tumbling("1m")
            folded = windows.reduce(lambda s, e: {"v": fault(e.v), "who": e.entity}, {"v": 0})
            folded.to.track.Q.named("q").start()
            if there:
                biz.Order("o1").append("created", v=2)
                biz.drain()
                clock.advance("5m")
                biz.drain()
            for letter in biz.dead_letters.list().run():
                biz.dead_letters.retry(letter.id)
            biz.drain()
            found = [(e.v, e.who) for e in biz.track.Q.events().run()]
            assert found == ([] if there else [(2, "o1")])


def test_a_letter_of_a_stream_that_is_another_by_now_says_so(shop):
    biz, _ = shop
    biz.stream.track.P.map(lambda e: 1 / 0).retry(0).to.track.Q.named("q").start()
    biz.track.P(v=1)
    biz.drain()
    biz.stream.track.P.filter(lambda e: True).to.track.Q.named("q").start(reset=True)
    (letter,) = biz.dead_letters.list().run()
    biz.dead_letters.retry(letter.id)
    biz.drain()
    (letter,) = biz.dead_letters.list().run()
    assert "another since" in letter.error
    biz.dead_letters.discard(letter.id)
