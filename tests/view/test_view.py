"""Views: always the same as counting anew, and subscribers can rebuild them from what they are told."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from bizcode import AlreadyExists, Business, InvalidName, InvalidQuery, NotFound, prop, this


def compute(biz):
    return dict(
        total=biz.sum("amount"),
        orders=biz.count(),
        least=biz.min("amount"),
        most=biz.max("amount"),
        plans=biz.distinct("plan"),
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_view_is_the_naive_count_after_anything(biz, clock, seed):
    rng = random.Random(seed)
    biz.view.define(
        "totals",
        source=biz.track.P,
        group_by="user",
        compute=compute(biz),
        order_by={"total": "desc"},
        limit=3,
    )
    told: dict = {}

    def apply(changes):
        for change in changes:
            if change.kind == "delete":
                assert told.pop(change.key) == change.before
            else:
                assert told.get(change.key) == change.before
                told[change.key] = change.after

    biz.view.totals.subscribe(apply)
    rows, merged = [], {}
    for _ in range(40):
        roll = rng.random()
        if roll < 0.8 or not rows:
            row = {"user_id": f"u{rng.randrange(5)}", "amount": rng.randrange(100), "plan": rng.choice("ab")}
            rows.append((row, biz.track.P(row).id))
        elif roll < 0.9:
            biz.retract(rows.pop(rng.randrange(len(rows)))[1])
        elif "u0" not in merged:
            merged["u0"] = "u1"
            biz.identify("u0", "u1")
        if rng.random() < 0.3:
            biz.store.segments.seal()
        if rng.random() < 0.4:
            biz.drain()
        expected: dict = {}
        for row, _ in rows:
            expected.setdefault(merged.get(row["user_id"], row["user_id"]), []).append(row)
        top = sorted(expected.items(), key=lambda item: (-sum(r["amount"] for r in item[1]), item[0]))[:3]
        found = biz.view.totals.get().run()
        assert [r.total for r in found] == [sum(r["amount"] for r in group) for _, group in top]
        for row in found:
            group = expected[row.user]
            amounts = [r["amount"] for r in group]
            assert (row.orders, row.least, row.most, row.plans) == (
                len(group),
                min(amounts),
                max(amounts),
                len({r["plan"] for r in group}),
            )
    biz.drain()
    assert told == {row.user: row for row in biz.view.totals.get().run()}


def test_read_by_key_filtered_ordered_and_paged(biz):
    biz.view.define(
        "v",
        source=biz.track.P,
        group_by=["user_id", "plan"],
        compute=dict(n=biz.count(), last=biz.max("timestamp")),
    )
    for user, plan in (("a", "x"), ("a", "x"), ("b", "y"), ("c", None)):
        biz.track.P({"user_id": user, "plan": plan} if plan else {"user_id": user})
    assert biz.view.v.get(("a", "x")).run().n == 2
    assert biz.view.v.get(("c", None)).run().n == 1
    assert biz.view.v.get(("z", "z")).run() is None
    assert [
        r.user_id for r in biz.view.v.where(n__gte=1).order_by({"user_id": "desc"}).limit(2).get().run()
    ] == ["c", "b"]
    assert [r.user_id for r in biz.view.v.get().order_by("user_id").offset(2).run()] == ["c"]
    assert biz.view.v.get(("a", "x")).run().last == biz.now()
    with pytest.raises(InvalidQuery, match="2 parts"):
        biz.view.v.get("a").run()


def test_a_sliding_view_lets_rows_go_as_time_passes(biz, clock):
    gone = []
    biz.view.define("active", source=biz.track.P, group_by="user_id", compute=dict(n=biz.count()), last="30m")
    biz.view.active.subscribe(on_delete=lambda row: gone.append(row.user_id))
    biz.track.P(user_id="a")
    biz.drain()
    clock.advance("20m")
    biz.track.P(user_id="b")
    clock.advance("11m")
    biz.drain()
    assert [r.user_id for r in biz.view.active.get().run()] == ["b"]
    assert gone == ["a"]


def test_of_measurements_of_views_and_with_having(biz):
    biz.view.define(
        "m",
        source=biz.measure.rev,
        group_by="plan",
        compute=dict(total=biz.sum("value")),
        having={"total": {"gte": 10}},
    )
    biz.view.define(
        "mm", source=biz.view.m, group_by=None, compute=dict(groups=biz.count(), all=biz.sum("total"))
    )
    for value, plan in ((5, "a"), (6, "a"), (3, "b"), (20, "c")):
        biz.measure.rev(value, plan=plan)
    assert {r.plan: r.total for r in biz.view.m.get()} == {"a": 11, "c": 20}
    assert [(r.groups, r["all"]) for r in biz.view.mm.get()] == [(2, 31)]


def test_list_info_update_drop_and_refusals(biz):
    def define(**changes):
        return biz.view.define(
            "v", **{"source": biz.track.P, "group_by": "user_id", "compute": dict(n=biz.count()), **changes}
        )

    define()
    define()
    with pytest.raises(AlreadyExists):
        define(group_by="plan")
    biz.track.P(user_id="a", plan="x")
    biz.view.v.update(group_by="plan")
    assert biz.view.v.get("x").run().n == 1
    info = biz.view.v.info().run()
    assert (info.rows, info.lag) == (1, 0)
    assert [i.name for i in biz.view.list().run()] == ["v"]
    biz.view.v.refresh()
    biz.view.v.drop()
    with pytest.raises(NotFound):
        biz.view.v.get().run()
    with pytest.raises(InvalidName):
        biz.view.define(" ", source=biz.track.P, compute=dict(n=biz.count()))
    for bad in (dict(compute={}), dict(compute=dict(n="count")), dict(order_by="nothing"), dict(source=None)):
        with pytest.raises(InvalidQuery):
            define(**bad)


def test_an_instant_of_a_streams_windows_stays_one(biz):
    biz.track.Order({"user_id": "u", "total": 2}, at="2024-03-01T10:01:00Z")
    biz.track.Order({"user_id": "u", "total": 3}, at="2024-03-01T10:16:00Z")
    windows = (
        biz.stream.track.Order.key_by("user_id").window.tumbling("10m").aggregate(total=biz.sum("total"))
    )
    biz.view.define(
        "ends",
        source=windows,
        group_by="key",
        compute={"end": biz.max("window_end"), "all": biz.collect("window_end")},
    )
    row = biz.view.ends.get("u").run()
    assert row.end == datetime(2024, 3, 1, 10, 20, tzinfo=UTC)
    assert row.all == [datetime(2024, 3, 1, 10, minute, tzinfo=UTC) for minute in (10, 20)]


def test_a_subscriber_that_raises_is_called_again_then_its_change_is_a_dead_letter_and_can_be_retried(biz):
    biz.view.define("v", source=biz.track.P, group_by="user_id", compute={"n": biz.count()})
    calls, told, broken = [], [], [True]

    def on_insert(row):
        calls.append(row.user_id)
        if broken and row.user_id == "a":
            raise OSError("down")
        told.append(row)

    biz.view.v.subscribe(on_insert=on_insert)
    biz.track.P(user_id="a")
    biz.track.P(user_id="b")
    biz.drain()
    assert calls == ["a"] * 4 + ["b"]
    assert [row.user_id for row in told] == ["b"]
    letter = biz.dead_letters.list().run()[0]
    assert letter.record[0]["after"] == {"user_id": "a", "n": 1}
    broken.clear()
    biz.dead_letters.retry(letter)
    biz.drain()
    assert [row.user_id for row in told] == ["b", "a"]
    assert biz.dead_letters.list().run() == []


def test_what_a_subscriber_writes_is_undone_when_it_raises(biz):
    biz.view.define("v", source=biz.track.P, group_by="user_id", compute={"n": biz.count()})

    def fn(changes):
        biz.track.Told(user_id="x")
        raise OSError("down")

    biz.view.v.subscribe(fn)
    biz.track.P(user_id="a")
    biz.drain()
    assert biz.track.Told.count().run() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"group_by": 5},
        {"group_by": [5]},
        {"group_by": ["a", "a"]},
        {"incremental": "no"},
        {"order_by": 3},
        {"compute": ["n"]},
        {"compute": {}},
        {"limit": 0},
        {"limit": -1},
        {"limit": "3"},
        {"order_by": {"m": "desc"}},
        {"source": "P"},
        {"source": None},
    ],
)
def test_a_definition_that_can_not_be_meant_is_refused(biz, options):
    given = {"source": biz.track.P, "compute": {"n": biz.count()}, **options}
    with pytest.raises(InvalidQuery):
        biz.view.define("x", **given)
    assert biz.view.list().run() == []


def test_a_view_is_asked_and_watched_only_by_what_it_has(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="user_id", compute={"n": biz.count()})
    with pytest.raises(InvalidQuery, match="user_id, n"):
        view.order_by("m").get().run()
    with pytest.raises(InvalidQuery, match="takes a function"):
        view.subscribe(5)
    for key in (["u1"], {"user_id": "u1"}):
        with pytest.raises(InvalidQuery, match="a tuple where"):
            view.get(key).run()
    with pytest.raises(InvalidQuery, match="incremental"):
        view.refresh(since="1h")


def test_info_says_in_words_what_a_view_is(biz):
    view = biz.view.define(
        "v",
        source=biz.track.P,
        where=this.amount > 3,
        group_by="user_id",
        compute={"total": biz.sum("amount")},
        having=this.total > 9,
        order_by={"total": "desc"},
        limit=3,
        last="30m",
    )
    assert view.info().run().definition == (
        "P where (this.amount > 3) by user_id: total = sum('amount'); of the last 30m; having (this.total > 9); "
        "ordered by total downwards; the first 3"
    )


def test_ties_are_ordered_by_the_key_and_several_fields_each_their_way(biz):
    view = biz.view.define(
        "v",
        source=biz.track.P,
        group_by="k",
        compute=dict(n=biz.count(), high=biz.max("v")),
        order_by=["-n", {"high": "asc"}],
        limit=4,
    )
    for k, v in (("d", 1), ("c", 1), ("b", 2), ("a", None), ("e", 0), ("e", 0)):
        biz.track.P(k=k, v=v)
    assert [row.k for row in view.get().run()] == ["e", "c", "d", "b"]
    assert view.get("a").run() is None
    biz.track.P(k="a", v=0)
    assert [row.k for row in view.get().run()] == ["a", "e", "c", "d"]


def test_having_on_what_is_none_leaves_the_row_out(biz):
    view = biz.view.define(
        "v", source=biz.track.P, group_by="k", compute=dict(high=biz.max("v")), having=this.high > 0
    )
    biz.track.P(k="a")
    assert view.get().run() == []
    event = biz.track.P(k="a", v=1)
    assert view.get("a").run().high == 1
    biz.retract(event.id)
    assert view.get("a").run() is None


def test_a_group_whose_records_are_all_taken_back_leaves_and_can_come_again(biz):
    view = biz.view.define(
        "v",
        source=biz.track.P,
        group_by="k",
        compute=dict(n=biz.count(), low=biz.min("v"), first=biz.first("v")),
    )
    for v in (1, 2):
        biz.retract(biz.track.P(k="a", v=v).id)
        assert view.get().run() == []
    biz.track.P(k="a", v=3)
    assert dict(view.get("a").run()) == {"k": "a", "n": 1, "low": 3, "first": 3}


def test_an_answer_may_be_older_where_that_is_allowed(biz, clock):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    biz.track.P(k="a")
    assert view.get("a", max_staleness="5s").run().n == 1
    biz.track.P(k="a")
    clock.advance("5s")
    assert view.get("a", max_staleness="5s").run().n == 1
    assert [row.n for row in view.get(max_staleness="5s").run()] == [1]
    clock.advance("1s")
    assert view.get("a", max_staleness="5s").run().n == 2
    biz.track.P(k="a")
    assert view.get("a").run().n == 3


def test_a_condition_that_raises_is_raised_to_the_reader_and_leaves_no_half_view(biz):
    broken = [True]

    def where(e):
        if broken and e.v == 2:
            raise OSError("down")
        return True

    view = biz.view.define("v", source=biz.track.P, where=where, group_by="k", compute=dict(n=biz.count()))
    biz.track.P(k="a", v=1)
    assert view.get("a").run().n == 1
    for v in (1, 2, 1):
        biz.track.P(k="a", v=v)
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            view.get("a").run()
    broken.clear()
    assert view.get("a").run().n == 4


def test_a_refresh_up_to_date_and_a_whole_one_give_the_same(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    for n in range(3):
        biz.track.P(k="a")
        view.refresh(incremental=bool(n % 2), since="1h" if n % 2 else None)
        assert view.get("a", max_staleness="1h").run().n == n + 1


def test_a_unit_sees_in_a_view_what_it_is_about_to_write(biz):
    view = biz.view.define(
        "v", source=biz.track.P, group_by="user", compute=dict(n=biz.count()), order_by={"n": "desc"}, limit=1
    )
    biz.track.P(user_id="a")
    with biz.do():
        biz.track.P(user_id="b")
        biz.track.P(user_id="b")
        assert [row.user for row in view.get().run()] == ["b"]
        assert view.get("a").run() is None
    assert view.get("b").run().n == 2


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("of", ["records", "a function", "a stream"])
def test_a_property_called_user_or_event_is_a_key_of_its_own(tmp_path, of, incremental):
    def define(biz, group_by, name="v"):
        source = {
            "records": biz.track.A,
            "a function": biz.track.A.where(lambda e: e.n is None),
            "a stream": biz.stream.track.A,
        }[of]
        biz.view.define(
            name, source=source, group_by=group_by, compute={"n": biz.count()}, incremental=incremental
        )

    for look in range(2):
        with Business(tmp_path, worker=False) as biz:
            define(biz, [prop("user"), prop("event"), prop("plan")])
            define(biz, ["user"], "merged")
            biz.track.A(user_id="u1", user="admin", event="open", plan="pro")
            biz.identify("u1", "u2")
            assert biz.view.v.get(("admin", "open", "pro")).run().n == look + 1
            [row] = biz.view.v.get().run()
            assert (row.user, row.event, row.plan) == ("admin", "open", "pro")
            assert [row.user for row in biz.view.merged.get().run()] == ["u2"]
            with pytest.raises(AlreadyExists):
                define(biz, ["user", "event", "plan"])
    with Business(tmp_path, worker=False) as biz:
        if of == "records":
            assert biz.view.v.get().run()[0].n == 2
        define(biz, [prop("user"), prop("event"), prop("plan")])
        biz.view.v.update(compute={"m": biz.count()})
        assert biz.view.v.get(("admin", "open", "pro")).run().m == 2
