"""Subscriptions: what is delivered, from when on, and to whom."""

from __future__ import annotations

import asyncio

import pytest
from processes import start, until

from bizcode import AlreadyExists, Business, InvalidName, InvalidQuery, InvalidValue


def test_an_unnamed_one_gets_each_record_from_then_on(biz):
    seen = []
    biz.track.Signup(n=0)
    biz.track.Signup.subscribe(lambda e: seen.append((e.n, e.type, e.position is not None)))
    biz.track.Signup(n=1)
    biz.track.Other(n=2)
    biz.drain()
    assert seen == [(1, "Signup", True)]


def test_a_named_one_goes_on_after_a_restart_where_it_was(tmp_path, clock):
    seen = []
    for n in range(3):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            if n != 1:
                biz.track.Signup.subscribe(lambda e: seen.append(e.n), name="mine")
            biz.track.Signup(n=n)
            biz.drain()
    assert seen == [0, 1, 2]


def test_only_what_meets_the_conditions(biz):
    seen = []
    biz.track.Purchase.subscribe(lambda e: seen.append(e.amount), where={"amount": {"gte": 1000}})
    biz.measure.cpu.subscribe(lambda e: seen.append(e.value))
    for amount in (999, 1000, "x", 5000):
        biz.track.Purchase(amount=amount)
    biz.measure.cpu(0.5)
    biz.drain()
    assert seen == [1000, 5000, 0.5]


def test_a_selection_may_be_subscribed_to(biz):
    seen = []
    biz.track.any.subscribe(lambda e: seen.append(e.type))
    biz.track.any.where(n=2).subscribe(lambda e: seen.append(e.n), where={"plan": "pro"})
    biz.measure.cpu.where(host="a").subscribe(lambda e: seen.append(e.value))
    biz.track.Signup(n=2, plan="pro")
    biz.track.Login(n=2)
    biz.measure.cpu(0.5, host="a")
    biz.measure.cpu(0.6, host="b")
    biz.drain()
    assert sorted(seen, key=str) == [0.5, 2, "Login", "Signup"]
    with pytest.raises(InvalidQuery, match="range"):
        biz.track.Signup.since("7d").subscribe(seen.append)


def test_nothing_comes_after_unsubscribe(biz):
    seen = []
    subscription = biz.track.Signup.subscribe(lambda e: seen.append(e.n))
    biz.track.Signup(n=1)
    biz.drain()
    subscription.unsubscribe()
    subscription.unsubscribe()
    biz.track.Signup(n=2)
    biz.drain()
    assert seen == [1]


def test_it_may_unsubscribe_itself_in_the_middle_of_a_batch(biz):
    seen = []

    def once(event):
        seen.append(event.n)
        subscription.unsubscribe()

    subscription = biz.track.Signup.subscribe(once)
    biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(5)])
    biz.drain()
    assert seen == [0]


def test_all_of_history_sealed_and_not(biz):
    seen = []
    biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(2_500)])
    biz.compact()
    biz.track.Signup(n=2_500)
    biz.track.Signup.subscribe(lambda e: seen.append(e.n), name="all", since="start")
    biz.drain()
    assert seen == list(range(2_501))


def test_a_batch_of_history_that_was_broken_off_is_taken_up_again(biz):
    seen = []
    biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(2_500)])
    biz.compact()
    biz.track.Signup.subscribe(lambda e: seen.append(e.n), name="all", since="start")
    consumer = biz.store.consumers.get("all")
    consumer.step(lambda _: len(seen) < 100)
    assert len(seen) == 100
    biz.drain()
    assert seen == list(range(2_500))


def test_coroutine_functions_are_run_to_their_end(biz):
    seen = []

    async def handler(event):
        await asyncio.sleep(0)
        biz.track.Seen(n=event.n)
        seen.append((event.n, await biz.track.Seen.count()))

    biz.track.Signup.subscribe(handler)
    biz.track.Signup(n=1)
    biz.drain()
    assert seen == [(1, 1)]


def test_coroutine_functions_are_run_when_drained_inside_a_running_loop(biz):
    seen = []

    async def handler(event):
        await asyncio.sleep(0)
        biz.track.Seen(n=event.n)
        seen.append(event.n)

    biz.track.Signup.subscribe(handler)
    biz.track.Signup(n=1)

    async def main():
        biz.drain()

    asyncio.run(main())
    assert seen == [1]
    assert biz.track.Seen.count().run() == 1


def test_a_handler_that_subscribes_another_has_it_driven_too(biz):
    seen = []

    @biz.on.track.Signup
    def first(event):
        biz.track.Signup.subscribe(lambda e: seen.append(e.n), name="second", since="start")

    biz.track.Signup(n=1)
    biz.drain()
    assert seen == [1]


def test_records_of_other_processes_come_too(tmp_path):
    with Business(tmp_path / "a") as biz:
        seen = []
        biz.track.Signup.subscribe(lambda e: seen.append(e.n))
        code = (
            "import sys; from bizcode import Business\n"
            "with Business(sys.argv[1], worker=False) as biz:\n    for n in range(3): biz.track.Signup(n=n)"
        )
        assert start(tmp_path / "a", code=code).wait(30) == 0
        until(lambda: len(seen) == 3)
        assert seen == [0, 1, 2]


def test_what_cannot_be_is_refused(biz):
    with pytest.raises(InvalidValue, match="function"):
        biz.track.Signup.subscribe(None)
    with pytest.raises(InvalidName, match="blank"):
        biz.track.Signup.subscribe(print, name=" ")
    with pytest.raises(InvalidQuery):
        biz.track.Signup.subscribe(print, where={"amount": {"above": 3}})
    biz.track.Signup.subscribe(print, name="mine")
    with pytest.raises(AlreadyExists, match="mine"):
        biz.track.Signup.subscribe(print, name="mine")


def test_a_handler_cannot_drain(biz):
    @biz.on.track.Signup
    def handler(event):
        biz.drain()

    biz.track.Signup()
    biz.drain()
    assert "drain() can't be called by a handler" in biz.dead_letters.list().run()[0].error


def test_what_is_sealed_while_it_reads_the_sealed_part_is_not_skipped(biz):
    seen = []

    def take(event):
        seen.append(event.n)
        if event.n == 10:
            with Business(biz.store.directory, worker=False) as other:
                for n in range(100, 200):
                    other.track.Signup(n=n)
                other.store.segments.seal()

    for n in range(100):
        biz.track.Signup(n=n)
    biz.store.segments.seal()
    biz.track.Signup.subscribe(take, name="mine", since="start")
    biz.drain()
    assert seen == list(range(200))


def test_its_position_is_written_at_the_close_though_nothing_was_wanted(tmp_path):
    for _ in range(2):
        with Business(tmp_path / "a", worker=False) as biz:
            biz.track.Signup.subscribe(print, name="mine")
            biz.track.Other()
            biz.drain()
            head = biz.store.log.head()
    with Business(tmp_path / "a", worker=False) as biz:
        biz.track.Signup.subscribe(print, name="mine")
        assert biz.store.consumers.get("mine").lag() == 0
        assert biz.store.log.head() == head
