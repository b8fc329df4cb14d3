"""A view over a view follows what changes there."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, InvalidQuery, ManualClock, NotFound

STEP = st.one_of(
    *[st.tuples(st.just("insert"), st.sampled_from("abcdef"), st.integers(-2, 6))] * 3,
    st.tuples(st.just("retract"), st.integers(0, 100)),
    st.tuples(st.just("advance"), st.integers(1, 20)),
    st.tuples(st.just("look")),
    st.tuples(st.just("update"), st.sampled_from([None, 2, 3])),
)


@pytest.mark.parametrize("last", [None, "30m"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=40))
def test_it_is_what_the_rows_there_give(last, steps):
    clock = ManualClock("2024-03-01")
    with Business(":memory:", worker=False, clock=clock) as biz:
        lower = biz.view.define(
            "lower",
            source=biz.track.P,
            group_by="k",
            compute=dict(total=biz.sum("v"), n=biz.count()),
            having={"n": {"gte": 2}},
            order_by={"total": "desc"},
            last=last,
        )
        compute = dict(
            rows=biz.count(),
            total=biz.sum("total"),
            low=biz.min("total"),
            top=biz.first("k"),
            end=biz.last("k"),
            all=biz.collect("k"),
        )
        upper = biz.view.define("upper", source=biz.view.lower, group_by="n", compute=compute)
        some = biz.view.define(
            "some", source=lower.where(total__gt=1), compute=dict(n=biz.count(), high=biz.max("total"))
        )
        ids = []
        for step in [*steps, ("look",)]:
            if step[0] == "insert":
                ids.append(biz.track.P(k=step[1], v=step[2]).id)
            elif step[0] == "retract" and ids:
                biz.retract(ids.pop(step[1] % len(ids)))
            elif step[0] == "advance":
                clock.advance(f"{step[1]}m")
            elif step[0] == "update":
                lower.update(limit=step[1])
            elif step[0] == "look":
                groups: dict = {}
                for row in lower.get().run():
                    groups.setdefault(row.n, []).append(row)
                found = {row.n: row for row in upper.get().run()}
                assert found.keys() == groups.keys()
                for n, rows in groups.items():
                    totals = [row.total for row in rows]
                    assert dict(found[n]) == {
                        "n": n,
                        "rows": len(rows),
                        "total": sum(totals),
                        "low": min(totals),
                        "top": rows[0].k,
                        "end": rows[-1].k,
                        "all": [row.k for row in rows],
                    }
                above = [row.total for row in lower.get().run() if row.total > 1]
                shown = [dict(row) for row in some.get().run()]
                assert shown == ([{"n": len(above), "high": max(above)}] if above else [])


def test_another_process_reads_it_by_its_name_alone(tmp_path):
    with Business(tmp_path, worker=False) as biz:
        biz.view.define("lower", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
        biz.view.define("upper", source=biz.view.lower, compute=dict(rows=biz.count()), where={"n": 1})
        biz.track.P(k="a")
    with Business(tmp_path, worker=False) as biz:
        assert [row.rows for row in biz.view.upper.get().run()] == [1]
        biz.view.lower.drop()
        with pytest.raises(NotFound, match="lower"):
            biz.view.upper.get().run()


def test_a_view_is_not_made_of_itself(biz):
    biz.view.define("a", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    biz.view.define("b", source=biz.view.a, group_by="n", compute=dict(m=biz.count()))
    with pytest.raises(InvalidQuery, match="a over b over a"):
        biz.view.a.update(source=biz.view.b)
    assert biz.view.a.get().run() == []


def test_rows_have_no_time_to_slide_by(biz):
    biz.view.define("a", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    with pytest.raises(InvalidQuery, match="last="):
        biz.view.define("b", source=biz.view.a, compute=dict(m=biz.count()), last="1h")


def test_a_subscriber_is_told_when_a_range_below_slides(biz, clock):
    biz.view.define("a", source=biz.track.P, group_by="k", compute=dict(n=biz.count()), last="30m")
    biz.view.define("b", source=biz.view.a, group_by="n", compute=dict(rows=biz.count()))
    told = []
    biz.view.b.subscribe(on_insert=told.append, on_delete=told.append)
    biz.track.P(k="x")
    biz.drain()
    clock.advance("31m")
    biz.drain()
    assert [dict(row) for row in told] == [{"n": 1, "rows": 1}] * 2


def test_where_the_view_below_is_dropped_the_rest_goes_on_and_it_goes_on_when_that_is_there_again(biz):
    below = dict(source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    base = biz.view.define("base", **below)
    top = biz.view.define("top", source=base, compute=dict(m=biz.sum("n")))
    told, seen = [], []
    top.subscribe(told.extend, initial=True)
    biz.on.track.P(lambda event: seen.append(event.k))
    base.drop()
    biz.track.P(k="a")
    biz.drain()
    assert seen == ["a"]
    assert [(info.name, info.rows, info.refreshed) for info in biz.view.list().run()] == [("top", 0, None)]
    with pytest.raises(NotFound, match="'base'"):
        top.get().run()
    biz.view.define("base", **below)
    biz.drain()
    assert [change.after for change in told] == [{"m": 1}]
