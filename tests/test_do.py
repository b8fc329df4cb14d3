# ruff: noqa: PT012 (what happens in a block that ends by an error is what is tested)
"""`biz.do`: all or nothing, in its four forms."""

from __future__ import annotations

import asyncio
import threading

import pytest
from processes import heard, start

from bizcode import Business, Conflict, InvalidValue, NotFound


@pytest.fixture
def other(biz):
    """The same business as another process sees it."""
    with Business(biz.store.root, clock=biz.clock, worker=False) as found:
        yield found


def test_a_block_is_seen_by_others_at_its_end_only_and_by_itself_at_once(biz, other):
    with biz.do():
        biz.track.Signup(user_id="u1")
        biz.measure.revenue(5)
        biz.Order("o1").append("created", total=5)
        biz.data.set("k", 1)
        assert other.track.Signup.count().run() == 0
        assert other.Order("o1").version().run() == 0
        assert "k" not in other.data
        assert biz.track.Signup.count().run() == 1
        assert [e.user for e in biz.track.Signup.events().run()] == ["u1"]
        assert biz.measure.revenue.sum().run() == 5
        assert biz.Order("o1").state().run() == {"total": 5, "status": "created"}
        assert biz.Order("o1").version().run() == 1
        assert biz.Order.ids().run() == ["o1"]
        assert biz.data.list().run() == {"k": 1}
        biz.data.delete("k")
        assert not biz.data.has("k")
    assert other.track.Signup.count().run() == 1
    assert other.Order("o1").version().run() == 1
    assert "k" not in other.data


def test_an_error_leaves_nothing(biz):
    with pytest.raises(RuntimeError), biz.do():
        biz.track.Signup()
        biz.Order("o1").append("created")
        biz.data.set("k", 1)
        biz.Slack("ops").post("hi")
        raise RuntimeError
    assert biz.store.log.head() == 0
    assert biz.data.keys().run() == []
    assert biz.store.log.scan("outbox") == []


def test_records_know_their_place_after_the_commit(biz):
    with biz.do():
        event = biz.track.Signup(n=1)
        first, second = biz.Order("o1").append_many(["created", "paid"])
        assert event.position is None
        assert event.id
    assert (event.position, first.version, second.version) == (1, 1, 2)
    assert biz.track.Signup.events().run()[0].id == event.id
    assert biz.Order("o1").events().run() == [first, second]


def test_events_read_inside_are_filtered_as_outside(biz):
    biz.Order("o1").append_many(["a", "b"])
    with biz.do():
        biz.Order("o1").append_many(["c", "d"])
        assert [e.type for e in biz.Order("o1").events(from_version=4).run()] == ["Order.d"]
        assert [e.version for e in biz.Order("o1").events(from_version=2).run()] == [2, 3, 4]
        assert biz.Order("o1").state(version=3).run() == {"status": "c"}


def test_a_function_as_a_filter_is_asked_of_all_that_the_block_sees(biz):
    biz.track.A(user_id="u1", n=1)
    biz.track.A(user_id="u2", n=2)
    with biz.do():
        biz.track.A(user_id="u3", n=3)
        biz.track.B(user_id="u3", n=4)
        assert biz.track.A.where(lambda e: e.n > 1).count().by("user").run() == {"u2": 1, "u3": 1}
        funnel = biz.track.funnel([biz.step("A").where(lambda e: e.n > 1), "B"])
        assert [step.count for step in funnel.run()] == [2, 1]


def test_retractions_and_merges_of_the_block_are_seen_by_it_alone_until_its_end(biz, other):
    first = biz.track.A(user_id="anon")
    for name in "AB":
        biz.track[name](user_id="u1")
    biz.identify("u2", "u1")

    def seen(by):
        funnel = by.track.funnel(["A", "B"])
        return by.track.A.count().by("user").run(), funnel.users(2).run(), funnel.run().steps[0].count

    before = ({"anon": 1, "u1": 1}, ["u1"], 2)
    assert seen(biz) == before
    with biz.do():
        biz.identify("u1", "u9")
        biz.track.B(user_id="anon")
        assert seen(biz) == ({"anon": 1, "u9": 1}, ["anon", "u9"], 2)
        biz.identify("anon", "u9")
        assert seen(biz) == ({"u9": 2}, ["u9"], 1)
        assert biz.track.B.count().by("user").run() == {"u9": 2}
        biz.retract(first.id)
        assert seen(biz) == ({"u9": 1}, ["u9"], 1)
        biz.unidentify("u1")
        assert seen(biz) == ({"u1": 1}, ["u1"], 1)
        assert seen(other) == before
    assert seen(biz) == seen(other) == ({"u1": 1}, ["u1"], 1)


def test_a_nested_one_joins(biz, other):
    with biz.do():
        biz.track.A()
        with biz.do():
            biz.track.B()
        assert biz.do.run(lambda: biz.track.C() and 7) == 7
        assert other.track.any.count().run() == 0
    assert other.track.any.count().run() == 3


def test_the_same_id_inside_gives_the_same_record(biz):
    with biz.do():
        first = biz.Order("o1").append("paid", {"n": 1}, id="pay", expect=0)
        assert biz.Order("o1").append("paid", {"n": 2}, id="pay", expect=0) is first
        assert biz.track.Signup({"n": 1}, id="s") is biz.track.Signup({"n": 2}, id="s")
        assert biz.Order("o1").version().run() == 1
    assert first.version == 1
    with biz.do():
        assert biz.Order("o1").append("paid", {"n": 3}, id="pay", expect=0) == first
    assert biz.Order("o1").version().run() == 1


def test_expect_is_held_inside_and_at_the_commit(biz, other):
    with pytest.raises(Conflict, match="expected 0"), biz.do():
        biz.Order("o1").append("a")
        biz.Order("o1").append("b", {}, expect=0)
    with pytest.raises(Conflict), biz.do():
        biz.Order("o1").append("a", {}, expect=0)
        in_thread(lambda: other.Order("o1").append("b"))
    assert [e.type for e in biz.Order("o1").events().run()] == ["Order.b"]


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("read", [lambda biz: biz.data.get("n"), lambda biz: biz.Order("o1").state().run()])
def test_what_was_read_must_still_hold(biz, other, read):
    with pytest.raises(Conflict), biz.do():
        read(biz)
        biz.track.Decided()
        in_thread(lambda: (other.data.set("n", 1), other.Order("o1").append("b")))
    assert biz.track.Decided.count().run() == 0


def test_an_append_without_a_read_never_conflicts(biz, other):
    with biz.do():
        biz.Order("o1").append("a")
        in_thread(lambda: other.Order("o1").append("b"))
    assert [(e.type, e.version) for e in biz.Order("o1").events().run()] == [("Order.b", 1), ("Order.a", 2)]


def test_run_retries_a_conflict(biz, other):
    calls = []

    def work():
        found = biz.data.get("n", 0)
        calls.append(found)
        if len(calls) <= 3:
            in_thread(lambda: other.data.set("n", found + 10))
        biz.data.set("n", found + 1)
        return found

    assert biz.do.run(work, retries=3) == 30
    assert calls == [0, 10, 20, 30]
    calls.clear()
    with pytest.raises(Conflict):
        biz.do.run(work, retries=2)
    assert len(calls) == 3


def test_threads_lose_no_update(biz):
    def work():
        for _ in range(20):
            biz.do.run(lambda: biz.data.set("n", biz.data.get("n", 0) + 1), retries=1_000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert biz.data["n"] == 80


def test_a_block_is_its_own_threads_alone(biz):
    with biz.do():
        biz.track.Inside()
        in_thread(lambda: biz.track.Outside())
        assert in_thread(lambda: biz.track.any.count().run()) == 1
    assert biz.track.any.count().run() == 2


def test_key_runs_it_once_for_ever(tmp_path, clock):
    calls = []

    def work():
        calls.append(1)
        biz.track.Paid()
        return {"n": len(calls), "at": biz.now()}

    for _ in range(2):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            result = biz.do.run(work, key="order-o1")
            assert result["n"] == biz.do(work, key="order-o1")["n"] == 1
            assert biz.track.Paid.count().run() == 1
    assert calls == [1]


def test_key_of_one_that_failed_is_free(biz):
    def fails():
        biz.track.Paid()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        biz.do.run(fails, key="k")
    assert biz.do.run(lambda: 5, key="k") == 5
    assert biz.do.run(lambda: 6, key="k") == 5
    assert biz.track.Paid.count().run() == 0


def test_key_gives_the_others_result_when_another_was_faster(biz, other):
    def slow():
        in_thread(lambda: other.do.run(lambda: "theirs", key="k"))
        return "mine"

    assert biz.do.run(slow, key="k", retries=0) == "theirs"


def test_as_a_decorator(biz):
    @biz.do
    def order(id, *, total):
        """Says what it does."""
        biz.Order(id).append("created", total=total)
        if total < 0:
            raise ValueError
        return total

    @biz.do(retries=0)
    def other(n):
        return biz.data.set("n", n) or n

    assert order("o1", total=5) == 5
    assert order.__doc__ == "Says what it does."
    with pytest.raises(ValueError):
        order("o2", total=-1)
    assert biz.Order.ids().run() == ["o1"]
    assert other(3) == biz.data["n"] == 3


def test_in_coroutines(biz, other):
    @biz.do
    async def decorated(n):
        await asyncio.sleep(0)
        biz.track.Decorated(n=n)
        return await biz.track.Decorated.count()

    async def keyed():
        biz.track.Keyed()
        return 7

    async def main():
        async with biz.do():
            biz.track.Block()
            await asyncio.sleep(0)
            assert other.track.Block.count().run() == 0
            assert await biz.track.Block.count() == 1
        assert await decorated(1) == 1
        assert await biz.do.run(keyed, key="k") == await biz.do(keyed, key="k") == 7
        with pytest.raises(RuntimeError):
            async with biz.do():
                biz.track.Block()
                raise RuntimeError

    asyncio.run(main())
    counts = biz.track.any.count().by("event").run()
    assert counts == {"Block": 1, "Decorated": 1, "Keyed": 1}


def test_tasks_keep_theirs_apart_and_lose_no_update(biz):
    async def one():
        async def work():
            found = biz.data.get("n", 0)
            await asyncio.sleep(0)
            biz.data.set("n", found + 1)

        await biz.do.run(work, retries=1_000)

    async def main():
        await asyncio.gather(*(one() for _ in range(25)))

    asyncio.run(main())
    assert biz.data["n"] == 25


def test_subscribers_see_records_after_the_commit(biz):
    seen = []
    biz.track.Signup.subscribe(lambda e: seen.append((e.n, e.position)))
    with biz.do():
        biz.track.Signup(n=1)
        assert seen == []
    biz.drain()
    assert seen == [(1, 1)]


def test_a_process_killed_in_the_middle_leaves_nothing(tmp_path):
    code = """
import sys, threading
from bizcode import Business
biz = Business(sys.argv[1], worker=False)
with biz.do():
    for n in range(100):
        biz.track.Signup(n=n)
        biz.Order("o1").append("created", n=n)
    biz.data.set("k", 1)
    print("in", flush=True)
    threading.Event().wait()
"""
    process = start(tmp_path / "a", code=code)
    heard(process, "in")
    process.kill()
    process.wait()
    with Business(tmp_path / "a", worker=False) as biz:
        assert biz.store.log.head() == 0
        assert biz.data.keys().run() == []
        assert biz.Order("o1").append("created").version == 1


def test_many_appends_in_one_block_cost_as_many_single_ones(biz):
    with biz.do():
        for n in range(5_000):
            biz.Order("o1").append("noted", n=n)
    assert biz.Order("o1").version().run() == 5_000


@pytest.mark.parametrize(
    "wrong",
    [
        lambda do: do.run(None),
        lambda do: do.run(lambda: 1, key=""),
        lambda do: do.run(lambda: 1, key=7),
        lambda do: do.run(lambda: 1, retries=-1),
        lambda do: do.run(lambda: 1, retries="many"),
        lambda do: do.run(object, key="k"),
        lambda do: do("x"),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong):
    with pytest.raises(InvalidValue):
        wrong(biz.do)


def test_writes_after_the_end_stand_alone(biz):
    with biz.do():
        biz.track.A()
    biz.track.B()
    assert biz.track.any.count().run() == 2


def test_settings_and_merges_are_undone_with_the_rest(biz):
    biz.identify("anon", "u1")
    with pytest.raises(RuntimeError), biz.do():
        biz.measure.load.set(3)
        with pytest.raises(Conflict):
            biz.measure.load.increment()
        biz.notifiers.add("Slack", "ops", "https://example.com/hook")
        assert biz.notifiers.list() == ["Slack/ops"]
        biz.quota.set(events_per_day=1)
        biz.unidentify("anon")
        with pytest.raises(NotFound):
            biz.unidentify("nobody")
        raise RuntimeError
    assert biz.measure.load.kind is None
    assert biz.notifiers.list() == []
    assert biz.quota.get().run()["events_per_day"] is None
    biz.track.Seen(user_id="anon")
    biz.track.Seen(user_id="u1")
    assert biz.track.Seen.unique().run() == 1
    with biz.do():
        biz.identify("other", "u1")
        biz.unidentify("other")
        biz.unidentify("anon")
        biz.measure.load.set(3)
    assert biz.track.Seen.unique().run() == 2
    assert biz.measure.load.kind == "gauge"


def test_a_metric_that_became_a_counter_meanwhile_is_no_gauge(biz, other):
    with pytest.raises(Conflict, match="counter"), biz.do():
        biz.measure.load.set(3)
        meanwhile = threading.Thread(target=other.measure.load.increment)
        meanwhile.start()
        meanwhile.join()
    assert biz.measure.load.current().run() == 1
