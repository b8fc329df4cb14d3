"""Projections: kept from all history, rebuilt while readers keep the old one, by whichever process."""

from __future__ import annotations

import threading

import pytest

from bizcode import AlreadyExists, Business, Conflict, InvalidName, InvalidQuery, NotFound
from bizcode.consume.lease import lease


def define(biz, function=None, on=("Order.*",)):
    def by_customer(event, p):
        if event.type == "Order.created":
            p.upsert(f"customer:{event.customer}:orders", lambda found: [*(found or []), event.entity])
        elif event.type == "Order.cancelled":
            p.delete(f"order:{event.entity}")
        p.set("last", event.type)
        p.set(f"count:{event.type}", (p.get(f"count:{event.type}") or 0) + 1)

    biz.projection("OrdersByCustomer", on=list(on))(function or by_customer)
    return biz.projection("OrdersByCustomer")


def order(biz, *ids, customer="c1"):
    for id in ids:
        biz.Order(id).append("created", customer=customer)


def test_it_is_filled_from_all_history_and_goes_on(biz):
    order(biz, "o1", "o2")
    biz.compact()
    order(biz, "o3", customer="c2")
    projection = define(biz)
    biz.drain()
    assert projection.get("customer:c1:orders").run() == ["o1", "o2"]
    order(biz, "o4")
    biz.drain()
    assert projection.get("customer:c1:orders").run() == ["o1", "o2", "o4"]
    assert projection.list(prefix="customer:").run() == {
        "customer:c1:orders": ["o1", "o2", "o4"],
        "customer:c2:orders": ["o3"],
    }
    assert projection.get("nobody").run() is None
    assert list(projection.list().run()) == sorted(projection.list().run())


def test_a_read_sees_every_write_before_it(biz):
    projection = define(biz)
    for n in range(3):
        order(biz, f"o{n}")
        assert projection.get("customer:c1:orders").run() == [f"o{i}" for i in range(n + 1)]


def test_what_its_function_writes_with(biz):
    seen = []

    def function(event, p):
        seen.append(p.get("k"))
        p.upsert("k", lambda found: (found, 1))
        seen.append(p.get("k"))
        p.set("gone", {"a": None})
        seen.append((p.delete("gone"), p.delete("gone"), p.get("gone")))

    projection = define(biz, function)
    order(biz, "o1")
    biz.drain()
    assert seen == [None, [None, 1], (True, False, None)]
    assert projection.list().run() == {"k": [None, 1]}


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (["Order.created"], ["Order.created"]),
        (["Order.*"], ["Order.created", "Order.paid"]),
        (["*.created"], ["Order.created", "Customer.created"]),
        (["Order.paid", "Customer.created"], ["Order.paid", "Customer.created"]),
        (["track.Signup"], ["Signup"]),
        (["*.*"], ["Order.created", "Order.paid", "Customer.created"]),
        ("Order.paid", ["Order.paid"]),
    ],
)
def test_which_events_it_follows(biz, on, expected):
    seen = []
    biz.projection("p", on=on)(lambda event, p: seen.append(event.type))
    biz.Order("o1").append("created")
    biz.Order("o1").append("paid")
    biz.Customer("c1").append("created")
    biz.track.Signup()
    biz.drain()
    assert seen == expected


def test_its_position_tells_how_far_it_is(biz):
    projection = define(biz)
    assert projection.position == 0
    order(biz, "o1", "o2")
    assert projection.position == 0
    biz.drain()
    assert projection.position == biz.store.log.head()


def test_a_rebuild_runs_over_all_history_and_readers_keep_the_old_until_then(biz):
    projection = define(biz)
    order(biz, "o1", "o2")
    biz.drain()
    before = projection.list().run()
    seen = []

    def changed(event, p):
        seen.append(projection.list().run())
        p.upsert("n", lambda n: (n or 0) + 1)

    define(biz, changed)
    projection.rebuild()
    assert seen == [before, before]
    assert projection.list().run() == {"n": 2}
    order(biz, "o3")
    biz.drain()
    assert projection.list().run() == {"n": 3}


def test_what_is_written_during_a_rebuild_is_not_lost(biz):
    written = []

    def function(event, p):
        if len(written) < 3:
            written.append(event.entity)
            threads = [threading.Thread(target=order, args=(biz, f"late{len(written)}"))]
            threads[0].start()
            threads[0].join()
        p.upsert("ids", lambda found: sorted({*(found or []), event.entity}))

    projection = define(biz, lambda event, p: None)
    order(biz, "o1")
    biz.drain()
    define(biz, function)
    projection.rebuild()
    biz.drain()
    assert projection.get("ids").run() == ["late1", "late2", "late3", "o1"]


def test_a_rebuild_by_another_process_is_taken_up(tmp_path, clock):
    with (
        Business(tmp_path / "a", clock=clock, worker=False) as here,
        Business(tmp_path / "a", clock=clock, worker=False) as there,
    ):
        for biz in (here, there):
            define(biz)
        order(here, "o1")
        here.drain()
        there.projection("OrdersByCustomer").rebuild()
        there.close()
        order(here, "o2")
        here.drain()
        assert here.projection("OrdersByCustomer").get("customer:c1:orders").run() == ["o1", "o2"]
        assert here.projection("OrdersByCustomer").position == here.store.log.head()


def test_two_rebuilds_at_once_are_refused(biz):
    projection = define(biz)
    with (
        lease(biz.store.log.locks, "rebuild:OrdersByCustomer"),
        pytest.raises(Conflict, match="being rebuilt"),
    ):
        projection.rebuild()
    projection.rebuild()


def test_a_reader_needs_no_function(tmp_path, clock):
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        define(biz)
        order(biz, "o1")
        biz.drain()
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        assert biz.projection("OrdersByCustomer").get("customer:c1:orders").run() == ["o1"]
        with pytest.raises(NotFound, match="not registered in this process"):
            biz.projection("OrdersByCustomer").rebuild()


def test_an_event_that_it_cannot_take_is_a_dead_letter_and_a_rebuild_ends_it(biz):
    projection = define(biz, lambda event, p: p.set("k", 1 / event.n))
    biz.Order("o1").append("created", n=0)
    biz.Order("o1").append("created", n=2)
    biz.drain()
    assert projection.get("k").run() == 0.5
    (letter,) = biz.dead_letters.list().run()
    assert letter.error.startswith("ZeroDivisionError")
    define(biz, lambda event, p: p.set("k", event.n))
    projection.rebuild()
    assert biz.dead_letters.list().run() == []


def test_what_cannot_be_is_refused(biz):
    with pytest.raises(NotFound, match=r"biz\.projection"):
        biz.projection("nope").get("k").run()
    with pytest.raises(InvalidName):
        biz.projection(" ")
    for on in (["Order"], [""], [".created"], ["Order."], [7], []):
        with pytest.raises(InvalidQuery):
            biz.projection("p", on=on)(print)
    projection = define(biz)
    define(biz)
    with pytest.raises(AlreadyExists, match="follows"):
        define(biz, on=["*.created"])
    with pytest.raises(InvalidName):
        projection.get("").run()
    kept = []
    define(biz, lambda event, p: (kept.append(p), p.set("k", object())))
    order(biz, "o1")
    biz.drain()
    assert "InvalidValue" in biz.dead_letters.list().run()[0].error
    with pytest.raises(InvalidQuery, match="only by its function"):
        kept[0].set("k", 1)
