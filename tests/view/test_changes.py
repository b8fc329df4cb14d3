"""Who subscribes is told every change once, from a moment on, and can rebuild the view from what it is told."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock

STEP = st.one_of(
    *[st.tuples(st.just("insert"), st.sampled_from(["a", "b", "c", "d", None, True, 1]), st.integers(0, 3))]
    * 3,
    st.tuples(st.just("retract"), st.integers(0, 100)),
    st.tuples(st.just("advance"), st.integers(1, 20)),
    st.tuples(st.just("drain")),
    st.tuples(
        st.just("update"),
        st.sampled_from(
            [
                dict(limit=1),
                dict(limit=3),
                dict(limit=None),
                dict(order_by="k"),
                dict(having={"n": {"gte": 2}}),
            ]
        ),
    ),
    st.tuples(st.just("refresh")),
    st.tuples(st.just("redefine")),
)


class Rebuilt:
    """A table made of what a subscriber is told."""

    def __init__(self):
        self.rows = {}

    def __call__(self, changes):
        named = [self.name(change.key) for change in changes]
        assert len(named) == len(set(named))
        for change in changes:
            name = self.name(change.key)
            assert self.rows.get(name) == change.before
            assert change.kind == (
                "insert" if change.before is None else "delete" if change.after is None else "update"
            )
            if change.after is None:
                del self.rows[name]
            else:
                self.rows[name] = change.after

    @staticmethod
    def name(key):
        return type(key).__name__, key


@pytest.mark.parametrize("last", [None, "30m"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=40))
def test_what_is_told_applied_to_an_empty_table_is_the_view(last, steps):
    clock = ManualClock("2024-03-01")
    with Business(":memory:", worker=False, clock=clock) as biz:

        def define(**options):
            return biz.view.define(
                "v",
                source=biz.track.P,
                group_by="k",
                compute=dict(n=biz.count(), total=biz.sum("v")),
                last=last,
                **options,
            )

        view = define(order_by={"total": "desc"}, limit=2)
        ids = [biz.track.P(k="a", v=1).id]
        all_of, some = Rebuilt(), Rebuilt()
        view.subscribe(all_of, initial=True)
        view.subscribe(some, where={"n": {"gte": 2}}, initial=True)
        for step in [*steps, ("drain",)]:
            if step[0] == "insert":
                ids.append(biz.track.P(k=step[1], v=step[2]).id)
            elif step[0] == "retract" and ids:
                biz.retract(ids.pop(step[1] % len(ids)))
            elif step[0] == "advance":
                clock.advance(f"{step[1]}m")
            elif step[0] == "update":
                view.update(**step[1])
            elif step[0] == "refresh":
                view.refresh()
            elif step[0] == "redefine":
                view.drop()
                biz.drain()
                define(limit=3)
            elif step[0] == "drain":
                biz.drain()
                shown = view.get().run()
                assert all_of.rows == {Rebuilt.name(row.k): row for row in shown}
                assert some.rows == {Rebuilt.name(row.k): row for row in shown if row.n >= 2}
        assert biz.dead_letters.list().run() == []


def test_entering_and_leaving_the_limit_are_insert_and_delete(biz):
    view = biz.view.define(
        "v",
        source=biz.track.P,
        group_by="k",
        compute=dict(n=biz.count()),
        order_by={"n": "desc"},
        limit=1,
    )
    biz.track.P(k="a")
    told = []
    view.subscribe(
        on_insert=lambda row: told.append(("in", row.k)),
        on_update=lambda before, after: told.append((before.n, after.n)),
        on_delete=lambda row: told.append(("out", row.k)),
    )
    for _ in range(2):
        biz.track.P(k="b")
    biz.drain()
    biz.track.P(k="b")
    biz.drain()
    assert told == [("out", "a"), ("in", "b"), (2, 3)]


def test_a_change_that_the_condition_lets_in_is_an_insert(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    told = []
    view.subscribe(told.extend, where={"n": {"gte": 2}})
    biz.track.P(k="a")
    biz.drain()
    ids = [biz.track.P(k="a").id]
    biz.drain()
    biz.retract(ids[0])
    biz.drain()
    assert [(change.kind, change.key) for change in told] == [("insert", "a"), ("delete", "a")]


def test_nothing_is_told_of_what_was_there_before_unless_it_is_asked_for(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    biz.track.P(k="a")
    later, initial = [], []
    view.subscribe(on_insert=later.append)
    view.subscribe(on_insert=initial.append, initial=True)
    biz.drain()
    biz.track.P(k="b")
    biz.drain()
    assert [row.k for row in later] == ["b"]
    assert [row.k for row in initial] == ["a", "b"]


def test_an_unsubscribed_function_is_told_no_more(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    told = []
    view.subscribe(on_insert=told.append).unsubscribe()
    biz.track.P(k="a")
    biz.drain()
    assert told == []


def test_a_subscriber_of_a_view_that_a_stream_writes_is_told_its_rows(biz):
    biz.stream.track.P.key_by("k").aggregate(n=biz.count()).to.view.sums.start()
    rebuilt = Rebuilt()
    biz.view.sums.subscribe(rebuilt, initial=True)
    for k in "aab":
        biz.track.P(k=k)
        biz.drain()
    assert {name: row.n for name, row in rebuilt.rows.items()} == {("str", "a"): 2, ("str", "b"): 1}


def test_a_change_of_the_definition_is_told_though_nothing_was_recorded(tmp_path):
    with Business(tmp_path, worker=False) as biz, Business(tmp_path, worker=False) as other:
        biz.view.define(
            "v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()), order_by="-n", limit=2
        )
        for k in "aab":
            biz.track.P(k=k)
        told = []
        biz.view.v.subscribe(told.extend)
        biz.drain()
        other.view.v.update(limit=1)
        biz.drain()
        assert [(change.kind, change.key) for change in told] == [("delete", "b")]
        biz.drain()
        assert len(told) == 1
