"""Snapshots: automatic, by hand, void when the reducers change, and never of any effect on a result."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import field
from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import SOURCE

from bizcode import Business


def kept(biz, entity="Account/a"):
    found = biz.store.log.get("snapshot", entity)
    return None if found is None else orjson.loads(found)["version"]


def define(biz, every=10, step=1, **options):
    calls = []

    @biz.aggregate("Account", snapshots={"every": every}, **options)
    class Account:
        total: float = 0
        seen: list = field(default_factory=list)

        def credited(self, e):
            calls.append(e.version)
            self.total += e.amount * step
            self.seen.append(e.amount)

    return calls


def credit(biz, *amounts):
    biz.Account("a").append_many([("credited", {"amount": amount}) for amount in amounts])


def test_a_read_past_so_many_events_keeps_one_and_the_next_read_starts_there(biz):
    calls = define(biz)
    credit(biz, *range(9))
    biz.Account("a").state().run()
    assert kept(biz) is None
    credit(biz, 9)
    before = biz.Account("a").state().run()
    assert kept(biz) == 10
    calls.clear()
    assert biz.Account("a").state().run() == before
    assert calls == []
    credit(biz, 10)
    assert biz.Account("a").state().run().total == 55
    assert calls == [11]


def test_one_can_be_taken_by_hand(biz):
    calls = define(biz, every=0)
    assert biz.Account("a").snapshot() is False
    credit(biz, *range(50))
    biz.Account("a").state().run()
    assert kept(biz) is None
    assert biz.Account("a").snapshot() is True
    assert kept(biz) == 50
    calls.clear()
    assert biz.Account("a").state().run().total == sum(range(50))
    assert calls == []


def test_earlier_versions_and_instants_are_right_beside_a_snapshot(biz):
    define(biz)
    for n in range(1, 31):
        biz.Account("a").append("credited", {"amount": n}, at=f"2024-01-{n:02}")
    biz.Account("a").state().run()
    assert kept(biz) == 30
    for n in (0, 1, 15, 30):
        assert biz.Account("a").state(version=n).run().total == n * (n + 1) / 2
    assert biz.Account("a").state_at("2024-01-20").run().total == 210


def test_a_changed_reducer_makes_it_void(biz):
    define(biz)
    credit(biz, *range(20))
    assert biz.Account("a").state().run().total == 190
    calls = define(biz, step=2, force=True)
    assert biz.Account("a").state().run().total == 380
    assert len(calls) == 20


PROGRAM = """
import sys
from dataclasses import field
from bizcode import Business

FACTOR = {factor}

def helper(n):
    return n {operator} FACTOR

with Business(sys.argv[1], worker=False) as biz:
    calls = []

    @biz.aggregate("Account", snapshots={{"every": 5}})
    class Account:
        total: float = 0
        seen: list = field(default_factory=list)
        kinds: dict = field(default_factory=lambda: {{"a": 1}})

        def credited(self, e):
            calls.append(1)
            if e.kind in {{"one", "two", "three", "four"}}:
                self.total += helper(e.amount)

    state = biz.Account("a").state().run()
    print(state.total, len(calls))
"""


def test_it_holds_in_other_processes_until_the_code_changes(tmp_path):
    with Business(tmp_path / "a", worker=False) as biz:
        biz.Account("a").append_many([("credited", {"amount": 1, "kind": "one"})] * 5)
    said = []
    for factor, operator in ((2, "*"), (2, "*"), (3, "*"), (3, "*"), (3, "+")):
        code = PROGRAM.format(factor=factor, operator=operator)
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a")],
            env={"PYTHONPATH": SOURCE},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(out.stdout.split())
    # Other hash seeds and addresses change nothing, what a reducer calls or looks at does.
    assert said == [["10", "5"], ["10", "0"], ["15", "5"], ["15", "0"], ["20", "5"]]


def test_a_type_without_an_aggregate_has_them_too(biz):
    for n in range(150):
        biz.Thing("t").append("changed", n=n)
    assert biz.Thing("t").state().run() == {"n": 149, "status": "changed"}
    assert kept(biz, "Thing/t") == 150
    biz.Thing("t").increment(2)
    assert biz.Thing("t").state().run() == {"n": 149, "quantity": 2, "status": "incremented"}


class Odd:
    """A value that JSON doesn't know."""


@pytest.mark.parametrize("value", [Odd(), float("nan"), {1: Odd()}, b"x"])
def test_a_state_that_would_not_come_back_as_it_was_has_none(biz, value):
    biz.aggregate("Account", reduce={"credited": lambda state, e: {"n": e.amount, "v": value}})
    credit(biz, 1)
    assert biz.Account("a").snapshot() is False
    assert biz.Account("a").state().run()["n"] == 1


def test_a_list_that_stands_in_two_places_stays_one(biz):
    def credited(state, e):
        if not state:
            shared: list = []
            state = {"a": shared, "b": shared}
        state["a"].append(e.amount)
        return state

    biz.aggregate("Account", reduce={"credited": credited}, snapshots={"every": 1})
    for n in range(4):
        credit(biz, n)
        assert biz.Account("a").state().run() == {"a": list(range(n + 1)), "b": list(range(n + 1))}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes()
    | st.dates()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.just("$"), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=2), max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_a_kept_state_comes_back_as_it_was(value):
    from bizcode.entity.snapshot import dump, restore

    found = dump(None, value, 3)
    if found is not None:
        version, back = restore(None, found)
        assert version == 3
        assert repr(back) == repr(value) or back == value
        assert type(back) is type(value)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("credited"), st.integers(-100, 100)),
        st.tuples(st.just("tagged"), st.text(max_size=3)),
        st.tuples(st.just("closed"), st.none()),
        st.tuples(st.just("unknown"), st.none()),
        st.just(("read", None)),
        st.just(("kept", None)),
    ),
    max_size=40,
)


def fold(events):
    """The oracle."""
    state = {"total": Decimal(0), "tags": {}, "open": True}
    for name, value in events:
        if name == "credited":
            state["total"] += value
        elif name == "tagged":
            state["tags"][value] = state["tags"].get(value, 0) + 1
        elif name == "closed":
            state["open"] = False
    return state


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Business(tmp_path_factory.mktemp("s") / "a", worker=False) as biz:
        yield biz


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, every=st.integers(0, 4), version=st.integers(0, 40))
def test_a_state_is_the_fold_of_its_events_with_and_without_snapshots(shared, events, every, version):
    import uuid

    def tagged(state, e):
        state["tags"][e.tag] = state["tags"].get(e.tag, 0) + 1

    shared.aggregate(
        "Account",
        initial=lambda: {"total": Decimal(0), "tags": {}, "open": True},
        reduce={
            "credited": lambda state, e: {**state, "total": state["total"] + e.amount},
            "tagged": tagged,
            "closed": lambda state, e: {**state, "open": False},
        },
        snapshots={"every": every},
        force=True,
    )
    account = shared.Account(uuid.uuid4().hex)
    stored = []
    for name, value in events:
        if name == "read":
            assert account.state().run() == fold(stored)
        elif name == "kept":
            account.snapshot()
        else:
            data = {"credited": {"amount": value}, "tagged": {"tag": value}}.get(name, {})
            account.append(name, data)
            stored.append((name, value))
    assert account.state().run() == account.state().run() == fold(stored)
    version = min(version, len(stored))
    assert account.state(version=version).run() == fold(stored[:version])
