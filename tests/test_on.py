"""`biz.on`: which records, from when on, under what name."""

from __future__ import annotations

import asyncio

import pytest

from bizcode import AlreadyExists, Business, InvalidName, InvalidTime, InvalidValue


def write(biz):
    biz.Customer("c1").append("signup", plan="pro")
    biz.Order("o1").append("created", total=5)
    biz.Order("o1").append("paid")
    biz.Customer("c1").append("created")
    biz.track.Signup(user_id="u1")
    biz.measure.revenue(10)


@pytest.mark.parametrize(
    ("path", "types"),
    [
        (lambda on: on.Customer.signup, ["Customer.signup"]),
        (lambda on: on["*"].created, ["Order.created", "Customer.created"]),
        (lambda on: on.Order["*"], ["Order.created", "Order.paid"]),
        (lambda on: on["*"]["*"], ["Customer.signup", "Order.created", "Order.paid", "Customer.created"]),
        (lambda on: on.track.Signup, ["Signup"]),
        (lambda on: on.track["*"], ["Signup"]),
        (lambda on: on.measure.revenue, ["revenue"]),
        (lambda on: on["Customer.signup"], ["Customer.signup"]),
        (lambda on: on["Order.*"], ["Order.created", "Order.paid"]),
        (lambda on: on["*.created"], ["Order.created", "Customer.created"]),
        (lambda on: on["track.Signup"], ["Signup"]),
    ],
)
def test_a_path_says_which_records(biz, path, types):
    seen = []
    path(biz.on)(lambda e: seen.append(e.type))
    write(biz)
    biz.drain()
    assert seen == types


def test_the_handler_is_given_the_record(biz):
    seen = []
    biz.on.Customer.signup(seen.append)
    stored = biz.Customer("c1").append("signup", plan="pro")
    biz.drain()
    assert seen == [stored]
    assert (seen[0].entity, seen[0].version, seen[0].plan, seen[0]["plan"]) == ("c1", 1, "pro", "pro")


def test_as_a_decorator_it_gives_the_function_back(biz):
    @biz.on.Customer.signup
    def plain(event): ...

    @biz.on.Customer.signup(name="named")
    def named(event): ...

    assert (plain.__name__, named.__name__) == ("plain", "named")


def test_async_handlers(biz):
    @biz.on.Customer.signup
    async def welcome(event):
        await asyncio.sleep(0)
        await biz.track.Welcomed(customer=event.entity)

    write(biz)
    biz.drain()
    assert biz.track.Welcomed.events().run()[0].customer == "c1"


def test_it_begins_at_now_or_earlier_where_told(biz, clock):
    seen = {"now": [], "start": [], "instant": []}
    biz.track.Signup(n=1)
    clock.advance("1h")
    biz.track.Signup(n=2)
    biz.on.track.Signup(lambda e: seen["now"].append(e.n))
    biz.on.track.Signup(lambda e: seen["start"].append(e.n), since="start")
    biz.on.track.Signup(lambda e: seen["instant"].append(e.n), since="2024-03-10T12:30:00")
    biz.track.Signup(n=3)
    biz.drain()
    assert seen == {"now": [3], "start": [1, 2, 3], "instant": [2, 3]}


def test_it_goes_on_after_a_restart(tmp_path, clock):
    seen = []

    def handler(event):
        seen.append(event.n)

    for n in range(3):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            if n != 1:
                biz.on.track.Signup(handler)
            biz.track.Signup(n=n)
            biz.drain()
    assert seen == [0, 1, 2]


def test_functions_of_one_name_are_numbered_in_order_of_registration(tmp_path, clock):
    def handlers(seen):
        for word in ("first", "second"):

            def handler(event, word=word):
                seen.append((word, event.n))

            yield handler

    seen = []
    for n in range(2):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            for handler in handlers(seen):
                biz.on.track.Signup(handler)
            biz.track.Signup(n=n)
            biz.drain()
    assert seen == [("first", 0), ("second", 0), ("first", 1), ("second", 1)]


def test_what_it_writes_is_seen_by_the_next(biz):
    biz.on.track.A(lambda e: biz.track.B(n=e.n + 1))
    biz.on.track.B(lambda e: biz.track.C(n=e.n + 1))
    biz.track.A(n=1)
    biz.drain()
    assert biz.track.C.events().run()[0].n == 3


def test_a_record_may_be_passed_on_whole(biz):
    biz.on.Customer.purchase(lambda e: (biz.track.Purchase(e), biz.Customer(e.entity).append("noted", e)))
    biz.Customer("c1").append("purchase", customer_id="c1", amount=5)
    biz.drain()
    (event,) = biz.track.Purchase.events().run()
    assert (event.user, event.amount) == ("c1", 5)
    assert biz.Customer("c1").events(type="noted").run()[0].data == event.data


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda on: on[""], InvalidName),
        (lambda on: on[" "].created, InvalidName),
        (lambda on: on[".created"], InvalidName),
        (lambda on: on["Order."], InvalidName),
        (lambda on: on["Order.created"].paid, InvalidValue),
        (lambda on: on.Customer[""], InvalidName),
        (lambda on: on.Customer[None], InvalidName),
        (lambda on: on.Customer(print), InvalidValue),
        (lambda on: on.Customer.a.b, InvalidValue),
        (lambda on: on.Customer.signup("x"), InvalidValue),
        (lambda on: on.Customer.signup(print, name=" "), InvalidName),
        (lambda on: on.Customer.signup(print, since="soon"), InvalidTime),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong, error):
    with pytest.raises(error):
        wrong(biz.on)


def test_a_name_stands_for_one_handler(biz):
    biz.on.track.Signup(write, name="mine")
    biz.on.track.Signup(write, name="mine")
    with pytest.raises(AlreadyExists, match=r"'mine' is taken by test_on.write \(on track.Signup\)"):
        biz.on.track.Other(write, name="mine")
