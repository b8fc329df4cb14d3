"""Appending: what is stored, in which version, and what is refused."""

from __future__ import annotations

import threading

import pytest
from processes import start

from bizcode import Business, Conflict, InvalidName, InvalidTime, InvalidValue


def test_the_stored_event_comes_back(biz, clock):
    event = biz.Order("o1").append("created", customer_id="c1", total=199)
    assert (event.type, event.entity, event.version, event.user) == ("Order.created", "o1", 1, "c1")
    assert event.data == {"customer_id": "c1", "total": 199}
    assert event.timestamp == biz.now()
    assert event.position == 1
    assert biz.Order("o1").events().run() == [event]


def test_a_mapping_is_the_properties_and_keywords_are_options(biz):
    event = biz.Order("o1").append("paid", {"at": "noon"}, at="2024-01-02", id="pay-7", user="u1")
    assert (event.data, event.id, event.user) == ({"at": "noon"}, "pay-7", "u1")
    assert event.timestamp.isoformat() == "2024-01-02T00:00:00+00:00"
    assert biz.Order("o1").append("copied", event).data == event.data
    assert biz.Order("o1").append("Order.named").type == "Order.named"


def test_append_many_is_one_commit(biz):
    events = biz.Order("o1").append_many(
        [("paid", {"n": 1}), "shipped", ("closed", None, {"id": "c1"})], expect=0
    )
    assert [(e.type, e.version) for e in events] == [
        ("Order.paid", 1),
        ("Order.shipped", 2),
        ("Order.closed", 3),
    ]
    with pytest.raises(InvalidValue, match=r"append_many\[1\].*2: .*"):
        biz.Order("o1").append_many([("paid", {}), ("paid", {"2": float("nan")})])
    with pytest.raises(Conflict):
        biz.Order("o1").append_many([("paid", {}), ("paid", {})], expect=0)
    assert biz.Order("o1").version().run() == 3
    assert biz.Order("o1").append_many([]) == []


def test_expect_is_the_version_that_it_must_have(biz):
    order = biz.Order("o1")
    order.append("created", {}, expect=0)
    with pytest.raises(Conflict, match="Order/o1 is at version 1, not at the expected 0"):
        order.append("created", {}, expect=0)
    order.append("paid", {}, expect=1)
    assert order.version().run() == 2


def test_a_known_id_gives_the_stored_event_before_expect_is_looked_at(biz):
    first = biz.Order("o1").append("paid", {"n": 1}, expect=0, id="pay-7")
    assert biz.Order("o1").append("paid", {"n": 2}, expect=0, id="pay-7") == first
    assert biz.Order("o1").version().run() == 1


def test_increment_and_decrement_count_a_quantity(biz):
    sku = biz.Inventory("sku")
    assert sku.increment(3).type == "Inventory.incremented"
    sku.increment()
    sku.decrement(2)
    assert sku.state().run()["quantity"] == 2
    with pytest.raises(Conflict, match="quantity of 2: 3 less would be below 0"):
        sku.decrement(3, below=0)
    sku.decrement(2, below=0)
    sku.decrement(1)
    assert sku.state().run()["quantity"] == -1


def test_decrement_with_a_known_id_gives_the_stored_event_even_when_it_would_fall_below(biz):
    biz.Inventory("sku").increment(2)
    taken = biz.Inventory("sku").decrement(2, below=0, id="order-1")
    assert biz.Inventory("sku").decrement(2, below=0, id="order-1") == taken
    assert biz.Inventory("sku").state().run()["quantity"] == 0


def test_what_is_left_is_never_sold_twice(biz):
    biz.Inventory("sku").increment(10)
    sold = []

    def sell():
        for _ in range(5):
            try:
                sold.append(biz.Inventory("sku").decrement(1, below=0))
            except Conflict:
                return

    threads = [threading.Thread(target=sell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sold) == 10
    assert biz.Inventory("sku").state().run()["quantity"] == 0


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda biz: biz.Order(""), InvalidName),
        (lambda biz: biz.Order("  "), InvalidName),
        (lambda biz: biz.Order(None), InvalidName),
        (lambda biz: biz.Order("\ud800"), InvalidName),
        (lambda biz: biz.Order("o1").append(""), InvalidName),
        (lambda biz: biz.Order("o1").append("  "), InvalidName),
        (lambda biz: biz.Order("o1").append(None), InvalidName),
        (lambda biz: biz.Order("o1").append("Order."), InvalidName),
        (lambda biz: biz.Order("o1").append("a.b"), InvalidName),
        (lambda biz: biz.Order("o1").append("paid", 7), InvalidValue),
        (lambda biz: biz.Order("o1").append("paid", {}, extra=1), InvalidValue),
        (lambda biz: biz.Order("o1").append("paid", {}, expect=-1), InvalidValue),
        (lambda biz: biz.Order("o1").append("paid", {}, expect=True), InvalidValue),
        (lambda biz: biz.Order("o1").append("paid", {}, id=" "), InvalidValue),
        (lambda biz: biz.Order("o1").append("paid", {}, at="soon"), InvalidTime),
        (lambda biz: biz.Order("o1").append("paid", total=float("inf")), InvalidValue),
        (lambda biz: biz.Order("o1").append_many("paid"), InvalidValue),
        (lambda biz: biz.Order("o1").append_many([None]), InvalidValue),
        (lambda biz: biz.Order("o1").append_many([()]), InvalidValue),
        (lambda biz: biz.Order("o1").append_many([("paid", {}, 3)]), InvalidValue),
        (lambda biz: biz.Order("o1").append_many([("paid", {}, {"no": 1})]), InvalidValue),
        (lambda biz: biz.Order("o1").append_many([("", {})]), InvalidName),
        (lambda biz: biz.Inventory("i").increment(-1), InvalidValue),
        (lambda biz: biz.Inventory("i").increment("3"), InvalidValue),
        (lambda biz: biz.Inventory("i").increment(3, reason="x"), InvalidValue),
        (lambda biz: biz.Inventory("i").decrement(1, below="0"), InvalidValue),
        (lambda biz: biz.Order("o1").events(type=" "), InvalidName),
    ],
)
def test_what_cannot_be_is_refused_and_stores_nothing(biz, wrong, error):
    with pytest.raises(error):
        wrong(biz)
    assert biz.store.log.head() == 0


def test_events_are_filtered_and_paged(biz):
    order = biz.Order("o1")
    for n in range(1, 7):
        order.append("paid" if n % 2 else "shipped", {"n": n}, at=f"2024-01-0{n}")

    def found(**options):
        return [e.n for e in order.events(**options).run()]

    assert found() == [1, 2, 3, 4, 5, 6]
    assert found(type="paid") == found(type="Order.paid") == [1, 3, 5]
    assert found(since="2024-01-03", until="2024-01-05") == [3, 4]
    assert found(from_version=4) == [4, 5, 6]
    assert found(limit=2, offset=1) == [2, 3]
    assert found(type="shipped", from_version=3, limit=1) == [4]


def test_events_stay_readable_when_sealed(biz):
    biz.Order("o1").append("created", n=1)
    biz.compact()
    biz.Order("o1").append("paid", n=2)
    assert [e.n for e in biz.Order("o1").events().run()] == [1, 2]
    assert biz.Order("o1").state().run() == {"n": 2, "status": "paid"}


def test_four_processes_appending_leave_versions_without_gaps(tmp_path):
    code = """
import sys
from bizcode import Business
with Business(sys.argv[1], worker=False) as biz:
    for n in range(100):
        if n % 10:
            biz.Order("o1").append("noted", by=sys.argv[2], n=n)
        else:
            biz.Order("o1").append_many([("noted", {"by": sys.argv[2], "n": n})] * 2)
"""
    processes = [start(tmp_path / "a", n, code=code) for n in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    with Business(tmp_path / "a", worker=False) as biz:
        events = biz.Order("o1").events().run()
        assert [e.version for e in events] == list(range(1, 441))
        assert [e.position for e in events] == sorted(e.position for e in events)
        for n in range(4):
            mine = [e.n for e in events if e.by == str(n)]
            assert mine == sorted(mine)
            assert len(mine) == 110
