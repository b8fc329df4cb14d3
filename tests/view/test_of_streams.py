"""A view over a stream is what the stream gives of all there is, kept up to date by what is new."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock, this, when

STEP = st.one_of(
    *[
        st.tuples(
            st.just("insert"),
            st.sampled_from(["a", "b", "c", None]),
            st.one_of(st.integers(-3, 5), st.sampled_from([0.5, "x", True, None])),
            st.integers(0, 50),
        )
    ]
    * 4,
    st.tuples(st.just("retract"), st.integers(0, 100)),
    st.tuples(st.just("look")),
    st.tuples(st.just("look")),
    st.tuples(st.just("seal")),
    st.tuples(st.just("advance"), st.integers(1, 40)),
    st.tuples(st.just("forget"), st.sampled_from(["a", "b"])),
)


def pipelines(biz):
    purchases = biz.stream.track.P
    keyed = purchases.filter(this.v != 4).key_by("user_id")
    sums = dict(total=biz.sum("v"), n=biz.count(), last=biz.last("v"))
    return {
        "elements": purchases.filter(lambda e: e.v != 4)
        .map(lambda e: {"k": e.user_id, "x": e.v})
        .flat_map(lambda row: [{**row, "half": half} for half in (0, 1) if row["x"] != half])
        .key_by("k"),
        "enriched": purchases.enrich(lambda e, biz: {"k": e.user_id, "x": e.v}),
        "tumbling": keyed.window.tumbling("10m")
        .aggregate(**sums)
        .map(lambda r: {"k": r.user_id, "x": r.n, **r}),
        "late": keyed.window.tumbling("10m")
        .aggregate(**sums)
        .lateness("20m")
        .filter(this.n > 1)
        .map(lambda r: {"k": r.user_id, "x": r.n}),
        "sliding": keyed.window.sliding("20m", "10m")
        .aggregate(**sums)
        .map(lambda r: {"k": r.user_id, "x": r.n}),
        "sessions": keyed.window.session("5m")
        .aggregate(**sums)
        .lateness("15m")
        .flat_map(lambda r: [{"k": r.user_id, "x": n} for n in range(r.n)]),
        "reduced": keyed.window.session("5m")
        .reduce(lambda s, e: {"k": e.user_id, "x": s["x"] + 1}, {"x": 0})
        .out_of_order("3m"),
        "running": keyed.aggregate(x=biz.count()).map(lambda r: {"k": r.user_id, "x": r.x}),
    }


def naive(elements):
    groups: dict = {}
    for element in elements:
        groups.setdefault(element.k, []).append(element.x)
    found = {}
    for key, all_of in groups.items():
        numbers = [x for x in all_of if type(x) in (int, float)]
        texts = [x for x in all_of if isinstance(x, str)]
        found[key] = {
            "n": len(all_of),
            "total": sum(numbers),
            "low": min(numbers or texts, default=None),
            "high": max(numbers or texts, default=None),
            "kinds": len({(type(x) is bool, x) for x in all_of if x is not None}),
        }
    return found


@pytest.mark.parametrize(
    "kind", ["elements", "enriched", "tumbling", "late", "sliding", "sessions", "reduced", "running"]
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=30))
def test_it_is_what_the_stream_gives_of_all_there_is(kind, steps):
    clock = ManualClock("2024-03-01")
    with Business(":memory:", worker=False, clock=clock) as biz:
        source = pipelines(biz)[kind]
        compute = dict(
            n=biz.count(),
            total=biz.sum("x"),
            low=biz.min("x"),
            high=biz.max("x"),
            kinds=biz.distinct("x"),
        )
        view = biz.view.define("v", source=source, group_by="k", compute=compute)
        told: dict = {}
        view.subscribe(lambda changes: [follow(told, change) for change in changes], initial=True)
        ids: list[str] = []
        for step in [*steps, ("look",)]:
            if step[0] == "insert":
                data = {"v": step[2]} if step[1] is None else {"user_id": step[1], "v": step[2]}
                at = when.to_datetime(clock.now()) - timedelta(minutes=step[3])
                ids.append(biz.track.P(data, at=at).id)
            elif step[0] == "retract" and ids:
                biz.retract(ids.pop(step[1] % len(ids)))
            elif step[0] == "seal":
                biz.store.segments.seal()
            elif step[0] == "advance":
                clock.advance(f"{step[1]}m")
            elif step[0] == "forget":
                biz.forget(step[1])
                ids = [e.id for e in biz.track.P.events().oldest_first().run()]
            elif step[0] == "look":
                found = {row["k"]: {k: v for k, v in row.items() if k != "k"} for row in view.get().run()}
                assert found == naive(source.run().run())
        biz.drain()
        assert told == {row["k"]: row for row in view.get().run()}


def follow(told, change):
    assert told.get(change.key) == change.before
    if change.after is None:
        del told[change.key]
    else:
        told[change.key] = change.after


def test_a_look_runs_the_functions_for_what_is_new_only(biz):
    seen = []

    def double(e):
        seen.append(e.v)
        return {"k": e.user_id, "x": e.v * 2}

    view = biz.view.define(
        "v", source=biz.stream.track.P.map(double), group_by="k", compute=dict(total=biz.sum("x"))
    )
    for n in range(20):
        biz.track.P(user_id="a", v=n)
    assert view.get("a").run().total == 380
    biz.track.P(user_id="b", v=100)
    seen.clear()
    assert view.get("b").run().total == 200
    assert seen == [100]


def test_a_record_taken_back_takes_out_what_came_of_it(biz):
    seen = []
    view = biz.view.define(
        "v",
        source=biz.stream.track.P.map(lambda e: seen.append(e.v) or {"k": "all", "x": e.v}),
        group_by="k",
        compute=dict(low=biz.min("x"), first=biz.first("x"), last=biz.last("x")),
    )
    ids = [biz.track.P(v=n).id for n in (3, 1, 2)]
    assert dict(view.get("all").run()) == {"k": "all", "low": 1, "first": 3, "last": 2}
    seen.clear()
    for id in ids[:2]:
        biz.retract(id)
    assert dict(view.get("all").run()) == {"k": "all", "low": 2, "first": 2, "last": 2}
    assert seen == [3, 1]


def test_an_open_window_is_shown_as_far_as_it_is_and_its_result_takes_the_place(biz, clock):
    windows = biz.stream.track.P.key_by("user_id").window.tumbling("1h").aggregate(total=biz.sum("v"))
    view = biz.view.define(
        "v", source=windows, group_by="user_id", compute=dict(best=biz.max("total"), hours=biz.count())
    )
    for v in (1, 2):
        biz.track.P(user_id="a", v=v)
        assert view.get("a").run().hours == 1
    assert view.get("a").run().best == 3
    clock.advance("2h")
    biz.track.P(user_id="a", v=1)
    assert dict(view.get("a").run()) == {"user_id": "a", "best": 3, "hours": 2}


def test_merged_users_are_one_in_a_view_of_a_streams_records(biz):
    view = biz.view.define(
        "v", source=biz.stream.track.P.filter(this.v > 0), group_by="user", compute=dict(n=biz.count())
    )
    biz.track.P(user_id="anon", v=1)
    biz.track.P(user_id="u1", v=1)
    assert view.get("u1").run().n == 1
    biz.identify("anon", "u1")
    assert view.get("u1").run().n == 2
    biz.unidentify("anon")
    assert view.get("u1").run().n == 1


def test_a_sliding_range_of_a_stream_lets_results_go_by_their_event_time(biz, clock):
    view = biz.view.define(
        "v",
        source=biz.stream.track.P.filter(this.v > 0),
        group_by="k",
        compute=dict(n=biz.count()),
        last="30m",
    )
    biz.track.P(k="a", v=1)
    clock.advance("20m")
    biz.track.P(k="b", v=1)
    assert {row.k for row in view.get().run()} == {"a", "b"}
    clock.advance("11m")
    assert {row.k for row in view.get().run()} == {"b"}


def test_a_function_that_gives_something_else_for_the_same_record_makes_the_view_anew(biz):
    key = ["a"]
    view = biz.view.define(
        "v", source=biz.stream.track.P.map(lambda e: {"k": key[0]}), group_by="k", compute=dict(n=biz.count())
    )
    id = biz.track.P(v=1).id
    biz.track.P(v=2)
    assert view.get("a").run().n == 2
    key[0] = "b"
    biz.retract(id)
    assert [dict(row) for row in view.get().run()] == [{"k": "b", "n": 1}]
