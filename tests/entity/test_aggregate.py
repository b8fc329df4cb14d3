"""From events to a state: reducers as a class or a mapping, schemas, upcasts, and what they may not do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bizcode import AlreadyExists, Business, InvalidName, InvalidQuery, InvalidValue, NotFound
from bizcode.entity.aggregate import ReducerError


def define(biz, **options):
    @biz.aggregate("Order", **options)
    class Order:
        status: str = "pending"
        total: float = 0
        items: list = field(default_factory=list)

        def created(self, e):
            self.status, self.total = "created", e.total

        def added(self, e):
            self.items.append(e["sku"])

        def paid(self, e):
            self.status = "paid"

    return Order


def mapping(biz, **options):
    biz.aggregate(
        "Order",
        initial=lambda: {"status": "pending", "total": 0},
        reduce={
            "Order.created": lambda state, e: {**state, "status": "created", "total": e.total},
            "paid": lambda state, e: state.update(status="paid"),
        },
        **options,
    )


def test_a_class_has_a_method_for_each_event(biz):
    Order = define(biz)
    assert biz.Order("o1").state().run() == Order()
    biz.Order("o1").append("created", total=199)
    biz.Order("o1").append("added", sku="s1")
    biz.Order("o1").append("viewed")
    biz.Order("o1").append("paid")
    assert biz.Order("o1").state().run() == Order("paid", 199, ["s1"])


def test_a_mapping_has_a_function_for_each_event(biz):
    mapping(biz)
    assert biz.Order("o1").state().run() == {"status": "pending", "total": 0}
    biz.Order("o1").append("created", total=199)
    assert biz.Order("o1").state().run() == {"status": "created", "total": 199}
    biz.Order("o1").append("paid")
    assert biz.Order("o1").state().run() == {"status": "paid", "total": 199}


def test_without_an_aggregate_the_data_is_merged(biz):
    biz.Order("o1").append("created", total=199, plan="a")
    biz.Order("o1").append("paid", plan="b")
    assert biz.Order("o1").state().run() == {"total": 199, "plan": "b", "status": "paid"}
    assert biz.Order("o2").state().run() == {}
    with pytest.raises(NotFound, match=r"biz\.aggregate"):
        biz.Order("o1").state(strict=True).run()
    define(biz)
    assert biz.Order("o1").state(strict=True).run().total == 199


def test_as_it_was_at_a_version_or_an_instant(biz):
    define(biz)
    order = biz.Order("o1")
    order.append("created", {"total": 5}, at="2024-01-01T10:00:00")
    order.append("paid", {}, at="2024-01-02T10:00:00")
    assert [order.state(version=n).run().status for n in range(3)] == ["pending", "created", "paid"]
    assert order.state_at("2024-01-01").run().status == "pending"
    assert order.state_at("2024-01-01T10:00:00").run().status == "created"
    assert order.state_at("2024-01-02").run().status == "created"
    assert order.state_at("2024-01-02T10:00:00").run().status == "paid"
    with pytest.raises(InvalidQuery, match="version 2, there is no 3"):
        order.state(version=3).run()
    with pytest.raises(InvalidQuery):
        order.state(version=-1)


def test_version_and_existence(biz):
    assert (biz.Order("o1").version().run(), biz.Order("o1").exists().run()) == (0, False)
    biz.Order("o1").append("created")
    assert (biz.Order("o1").version().run(), biz.Order("o1").exists().run()) == (1, True)


def test_a_state_is_a_fresh_object(biz):
    define(biz, snapshots={"every": 1})
    biz.Order("o1").append("added", sku="s1")
    for _ in range(3):
        state = biz.Order("o1").state().run()
        assert state.items == ["s1"]
        state.items.append("mine")


def test_a_list_of_the_class_is_not_shared_between_entities(biz):
    @biz.aggregate("Cart")
    class Cart:
        items = []

        def added(self, e):
            self.items.append(e.sku)

    biz.Cart("a").append("added", sku="s1")
    biz.Cart("b").append("added", sku="s2")
    for _ in range(2):
        assert (biz.Cart("a").state().run().items, biz.Cart("b").state().run().items) == (["s1"], ["s2"])
    assert Cart.items == []


def test_a_reducer_may_give_the_next_state(biz):
    @dataclass(frozen=True)
    class Counter:
        n: int = 0

        def hit(self, e):
            return Counter(self.n + 1)

    biz.aggregate("Counter")(Counter)
    for _ in range(3):
        biz.Counter("c").append("hit")
    assert biz.Counter("c").state().run() == Counter(3)


def test_a_reducer_that_raises_names_entity_version_and_event(biz):
    broken = [True]

    def paid(state, e):
        if broken:
            raise KeyError("card")
        return {"paid": True}

    biz.aggregate("Order", reduce={"paid": paid})
    biz.Order("o1").append("created")
    event = biz.Order("o1").append("paid")
    with pytest.raises(
        ReducerError, match=r"Order\.paid failed on Order 'o1' at version 2 .*KeyError: 'card'"
    ) as raised:
        biz.Order("o1").state().run()
    assert event.id in str(raised.value)
    assert biz.Order("o1").events().run()[1] == event
    broken.clear()
    assert biz.Order("o1").state().run() == {"paid": True}


def test_a_schema_is_held_when_appending(biz):
    define(
        biz, schema={"Order.created": {"total": float, "items?": list, "tags?": list[str], "n?": int | None}}
    )
    order = biz.Order("o1")
    order.append("created", total=3)
    order.append("created", total=3.5, items=[1], tags=["a"])
    order.append("paid", anything=1)
    for data, says in (
        ({}, "Order.created of Order 'o1' needs the property 'total'"),
        ({"total": "3"}, "total is '3', not float"),
        ({"total": True}, "total is True, not float"),
        ({"total": 3, "items": "x"}, "items is 'x', not list"),
        ({"total": 3, "n": "x"}, "n is 'x'"),
    ):
        with pytest.raises(InvalidValue) as raised:
            order.append("created", data)
        assert says in str(raised.value)
    with pytest.raises(InvalidValue, match="total"):
        order.append_many([("paid", {}), ("created", {})])
    assert order.version().run() == 3


def test_old_events_go_through_upcast_first(biz):
    biz.Order("o1").append("created", price="5")
    biz.aggregate(
        "Order",
        initial=dict,
        reduce={"created": lambda state, e: {**state, "total": e.total}},
        upcast={"created": lambda data: {"total": float(data["price"])} if "price" in data else data},
    )
    assert biz.Order("o1").state().run() == {"total": 5.0}
    biz.Order("o1").append("created", total=7)
    assert biz.Order("o1").state().run() == {"total": 7}
    assert biz.Order("o1").events().run()[0].data == {"price": "5"}


def test_a_quantity_is_counted_by_any_aggregate(biz):
    define(biz)
    biz.Order("o1").increment(3)
    biz.Order("o1").decrement(1)
    assert biz.Order("o1").state().run().quantity == 2
    biz.aggregate("Stock", initial={"quantity": 10}, reduce={})
    biz.Stock("s").decrement(4)
    biz.Stock("s").append("decremented")
    assert biz.Stock("s").state().run() == {"quantity": 6}
    assert biz.Stock("t").state().run() == {"quantity": 10}


def test_an_action_gets_the_handle_the_business_and_the_calls_arguments(biz):
    @biz.Customer.action
    def notify(customer, biz, text, loud=False):
        return customer.append("notified", text=text.upper() if loud else text)

    event = biz.Customer("c1").notify("hi", loud=True)
    assert (event.entity, event.text) == ("c1", "HI")
    with pytest.raises(AttributeError, match="no action 'call'; defined are: notify"):
        biz.Customer("c1").call()
    with pytest.raises(InvalidName, match="append"):
        biz.Customer.action(lambda *a: None, name="append")
    with pytest.raises(InvalidValue):
        biz.Customer.action("x")


def test_ids_and_current_states(biz):
    define(biz)
    for n in range(5):
        biz.Order(f"o{n}").append("created", total=n)
    biz.Order("o3").append("paid")
    biz.Customer("c1").append("created")
    assert biz.Order.ids().run() == [f"o{n}" for n in range(5)]
    assert [(row.id, row["total"]) for row in biz.Order.where(status="paid").run()] == [("o3", 3)]
    assert [row.id for row in biz.Order.where(total__gte=1).where(status="created").limit(2).run()] == [
        "o1",
        "o2",
    ]
    assert biz.Order.where(total__gte=1).count().run() == 4
    assert biz.Order.where(total__gte=100).run() == []
    assert biz.Nothing.ids().run() == []


def test_an_id_is_any_text(biz):
    for id in ("a/b", "ä ö", "%", "x.y", "'; drop", "0"):
        assert biz.Order(id).append("created").entity == id
        assert biz.Order(id).events().run()[0].entity == id
    assert biz.Order.ids().run() == sorted(("a/b", "ä ö", "%", "x.y", "'; drop", "0"))


def test_defined_again_changes_nothing_and_something_else_is_refused(biz):
    define(biz)
    define(biz)
    with pytest.raises(AlreadyExists, match="force=True"):
        mapping(biz)
    mapping(biz, force=True)
    assert biz.Order("o1").state().run() == {"status": "pending", "total": 0}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda biz: biz.aggregate(""), InvalidName),
        (lambda biz: biz.aggregate("order"), InvalidName),
        (lambda biz: biz.aggregate(None), InvalidName),
        (lambda biz: biz.aggregate("Slack"), InvalidName),
        (lambda biz: biz.aggregate("Order")(lambda: 1), InvalidQuery),
        (lambda biz: biz.aggregate("Order", reduce={"": print}), InvalidName),
        (lambda biz: biz.aggregate("Order", reduce={"paid": 7}), InvalidQuery),
        (lambda biz: biz.aggregate("Order", reduce={}, snapshots={"every": -1}), InvalidQuery),
        (lambda biz: biz.aggregate("Order")(type("O", (), {"__annotations__": {"n": int}})), InvalidQuery),
        (
            lambda biz: biz.aggregate("Order")(type("O", (), {"__annotations__": {"n": list}, "n": []})),
            InvalidQuery,
        ),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong, error):
    with pytest.raises(error):
        wrong(biz)


def test_a_record_awaits(biz):
    import asyncio

    async def main():
        event = await biz.Order("o1").append("created", total=1)
        return event.version, await biz.Order("o1").state(), await biz.Order.ids()

    assert asyncio.run(main()) == (1, {"total": 1, "status": "created"}, ["o1"])


def test_definitions_give_a_restarted_program_its_functions_back(tmp_path, clock):
    for n in range(3):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            define(biz)
            biz.Order("o1").append("added", sku=f"s{n}")
            assert biz.Order("o1").state().run().items == [f"s{i}" for i in range(n + 1)]


def test_an_id_may_be_as_long_as_it_likes(biz):
    name = "é" * 5_000
    biz.Order(name).append("created", total=3)
    assert biz.Order(name).state().run()["total"] == 3
    biz.store.segments.seal()
    assert [e.entity for e in biz.Order(name).events().run()] == [name]
    assert biz.Order.ids().run() == [name]
