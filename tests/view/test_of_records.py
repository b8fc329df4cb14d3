"""A maintained view is the view made anew, after any inserts, retractions, merges, expiry and sealing."""

from __future__ import annotations

import statistics
from datetime import timedelta

import pytest
from comparing import plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, InvalidQuery, ManualClock, NotFound, this
from bizcode.view import of_records
from bizcode.view.grouped import states

INSERT = st.tuples(
    st.just("insert"),
    st.sampled_from(["u1", "u2", "u3", None]),
    st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([0.5, 2.0, "x", True])),
    st.integers(0, 50),
)
STEP = st.one_of(
    INSERT,
    INSERT,
    INSERT,
    st.tuples(st.just("retract"), st.integers(0, 100)),
    st.tuples(st.just("identify"), st.sampled_from(["u1", "u2"]), st.sampled_from(["u2", "u3"])),
    st.tuples(st.just("unidentify"), st.sampled_from(["u1", "u2"])),
    st.tuples(st.just("advance"), st.integers(1, 40)),
    st.tuples(st.just("seal")),
    st.tuples(st.just("look")),
    st.tuples(st.just("forget"), st.sampled_from(["u1", "u3"])),
)


def define(biz, name, **options):
    return biz.view.define(
        name,
        source=biz.track.P,
        where=this.skip != True,  # noqa: E712
        compute=dict(
            n=biz.count(),
            total=biz.sum("v"),
            mean=biz.avg("v"),
            low=biz.min("v"),
            high=biz.max("v"),
            first=biz.first("v"),
            last=biz.last("v"),
            when=biz.max("timestamp"),
            kinds=biz.distinct("v"),
            middle=biz.percentile(50, "v"),
            spread=biz.stddev("v"),
            all=biz.collect("v"),
        ),
        **options,
    )


@pytest.mark.parametrize("group_by", ["user", "v", ("user", "v"), None])
@pytest.mark.parametrize("last", [None, "30m"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_it_is_what_is_made_anew(group_by, last, steps):
    clock = ManualClock("2024-03-01")
    with Business(":memory:", worker=False, clock=clock) as biz:
        view = define(biz, "kept", group_by=group_by, last=last)
        view.get().run()
        ids: list[str] = []
        for step in steps:
            if step[0] == "insert":
                data = {} if step[1] is None else {"user_id": step[1]}
                data |= {} if step[2] is None else {"v": step[2]}
                ids.append(biz.track.P(data, at=clock_time(clock) - timedelta(minutes=step[3])).id)
            elif step[0] == "retract" and ids:
                biz.retract(ids.pop(step[1] % len(ids)))
            elif step[0] == "identify" and step[1] != step[2]:
                biz.identify(step[1], step[2])
            elif step[0] == "unidentify":
                try:
                    biz.unidentify(step[1])
                except NotFound:
                    continue
            elif step[0] == "advance":
                clock.advance(f"{step[1]}m")
            elif step[0] == "seal":
                biz.store.segments.seal()
            elif step[0] == "look":
                view.get().run()
            elif step[0] == "forget":
                biz.forget(step[1])
                ids = [e.id for e in biz.track.P.events().oldest_first().run()]
        found = view.get().run()
        made = define(biz, "anew", group_by=group_by, last=last).get().run()
        assert plain(found) == plain(made)
        if last is None:
            assert plain(found) == plain(naive(biz, group_by))
        assert sum(row.n for row in found) == expected(biz, clock, last)


def clock_time(clock):
    from bizcode import when

    return when.to_datetime(clock.now())


def expected(biz, clock, last):
    events = biz.track.P.events().run()
    edge = None if last is None else clock_time(clock) - timedelta(minutes=30)
    return sum(1 for event in events if edge is None or event.timestamp >= edge)


def naive(biz, group_by):
    """Rows counted from the events one by one, in plain Python."""
    user = biz.store.engine.tail.user
    names = () if group_by is None else (group_by,) if isinstance(group_by, str) else group_by
    groups: dict = {}
    for event in biz.track.P.events().oldest_first().run():
        parts = [
            (None if event.user is None else user(event.user)) if name == "user" else event.v
            for name in names
        ]
        key = tuple((type(part) is bool, part) for part in parts)
        groups.setdefault(key, []).append(event)
    for key, events in groups.items():
        given = [e.v for e in events if e.v is not None]
        numbers = [v for v in given if type(v) in (int, float)]
        texts = [v for v in given if isinstance(v, str)]
        yield {
            **dict(zip(names, (part for _, part in key), strict=True)),
            "n": len(events),
            "total": sum(numbers),
            "mean": sum(numbers) / len(numbers) if numbers else None,
            "low": min(numbers or texts, default=None),
            "high": max(numbers or texts, default=None),
            "first": given[0] if given else None,
            "last": given[-1] if given else None,
            "when": max(e.timestamp for e in events),
            "kinds": len({(type(v) is bool, v) for v in given}),
            "middle": statistics.median(numbers) if numbers else None,
            "spread": statistics.stdev(numbers) if len(numbers) > 1 else None,
            "all": given,
        }


def test_another_process_reads_a_view_by_its_name_alone(tmp_path):
    with Business(tmp_path, worker=False) as biz:
        define(biz, "kept", group_by="user", order_by={"total": "desc"}, limit=2)
        for n in range(5):
            biz.track.P(user_id=f"u{n}", v=n)
    with Business(tmp_path, worker=False) as biz:
        assert [row.user for row in biz.view.kept.get().run()] == ["u4", "u3"]
        assert biz.view.list().run()[0].rows == 2


def test_a_view_of_a_function_says_that_it_must_be_defined_again(tmp_path):
    with Business(tmp_path, worker=False) as biz:
        biz.view.define(
            "odd", source=biz.track.P, group_by="user", where=lambda e: e.v > 1, compute=dict(n=biz.count())
        )
        biz.track.P(user_id="a", v=2)
        biz.track.P(user_id="a", v=1)
        assert biz.view.odd.get("a").run().n == 1
        biz.track.P(user_id="a", v=3)
        assert biz.view.odd.get("a").run().n == 2
    with Business(tmp_path, worker=False) as biz, pytest.raises(NotFound, match="define it here too"):
        biz.view.odd.get().run()


@pytest.fixture
def made_again(monkeypatch):
    """How many groups each statement over sealed records gave."""
    counts: list[int] = []

    def counted(*given, **options):
        parts = list(states(*given, **options))
        counts.append(len(parts))
        return parts

    monkeypatch.setattr(of_records, "states", counted)
    return counts


@pytest.mark.parametrize("group_by", ["user_id", "user"])
def test_taking_back_a_groups_least_makes_that_group_again_and_no_other(biz, made_again, group_by):
    view = define(biz, "kept", group_by=group_by)
    ids = [biz.track.P(user_id=f"u{n % 50}", v=n).id for n in range(200)]
    biz.store.segments.seal()
    assert view.get("u7").run().low == 7
    assert made_again == [50]
    biz.retract(ids[7])
    biz.retract(ids[8])
    assert (view.get("u7").run().low, view.get("u8").run().low, view.get("u9").run().low) == (57, 58, 9)
    assert made_again == [50, 2]


def test_the_next_least_is_known_where_the_least_came_last(biz, made_again):
    view = define_least(biz)
    for v in (5, 7, 9):
        biz.track.P(k="a", v=v)
    biz.store.segments.seal()
    assert view.get("a").run().low == 5
    made_again.clear()
    ids = [biz.track.P(k="a", v=v).id for v in (3, 4, 1, 8)]
    for id, low in zip([ids[2], ids[0], ids[3], ids[1]], (3, 4, 4, 5), strict=True):
        biz.retract(id)
        assert view.get("a").run().low == low
    assert made_again == []


def test_a_group_made_again_knows_its_next_ones_too(biz, made_again):
    view = define_least(biz)
    ids = [biz.track.P(k="a", v=v).id for v in range(30)]
    biz.store.segments.seal()
    assert view.get("a").run().low == 0
    made_again.clear()
    for n, id in enumerate(ids[:16], 1):
        biz.retract(id)
        assert (view.get("a").run().low, view.get("a").run().high) == (n, 29)
    assert made_again == [1, 1]


def define_least(biz):
    return biz.view.define(
        "v", source=biz.track.P, group_by="k", compute=dict(low=biz.min("v"), high=biz.max("v"))
    )


def test_a_merge_undone_makes_the_groups_of_those_users_again_and_no_other(biz, made_again):
    view = define(biz, "kept", group_by=("user", "v"))
    for n in range(40):
        biz.track.P(user_id=f"u{n % 20}", v=n % 3)
    biz.store.segments.seal()
    biz.identify("u1", "u2")
    assert sum(row.n for row in view.where(user="u2").get().run()) == 4
    made_again.clear()
    biz.unidentify("u1")
    assert sum(row.n for row in view.where(user="u2").get().run()) == 2
    assert sum(row.n for row in view.where(user="u1").get().run()) == 2
    assert made_again == [4]


def test_a_float_taken_back_leaves_what_the_others_are_to_the_last_digit(biz):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(total=biz.sum("v")))
    big = biz.track.P(k="a", v=1e16 + 2.0)
    for v in (0.1, 0.2, 0.3):
        biz.track.P(k="a", v=v)
    biz.store.segments.seal()
    view.get().run()
    biz.retract(big.id)
    assert view.get("a").run().total == 0.6


def test_true_and_one_are_two_groups_and_a_whole_float_is_its_int(biz):
    view = biz.view.define("v", source=biz.track.P, group_by=["k", "l"], compute=dict(n=biz.count()))
    for k in (True, 1, 1.0, False, 0, "1", None):
        biz.track.P(k=k, l="é😀")
    keys = [True, 1, False, 0, "1", None]
    for _ in range(2):
        assert [view.get((k, "é😀")).run().n for k in keys] == [1, 2, 1, 1, 1, 1]
        assert {(type(row.k), row.k) for row in view.get().run()} == {(type(k), k) for k in keys}
        biz.store.segments.seal()
        view.refresh()


def test_the_largest_ints_are_kept_exactly(biz):
    view = biz.view.define(
        "v", source=biz.track.P, group_by="k", compute=dict(total=biz.sum("v"), high=biz.max("v"))
    )
    top = 2**63 - 1
    first = biz.track.P(k=top, v=top)
    biz.track.P(k=top, v=top)
    for _ in range(2):
        assert view.get(top).run().total == 2 * top
        biz.store.segments.seal()
        view.refresh()
    biz.retract(first.id)
    assert dict(view.get(top).run()) == {"k": top, "total": top, "high": top}


@pytest.mark.parametrize("sealed", [False, True])
def test_an_object_is_no_key_and_a_list_is_its_text(biz, sealed):
    view = biz.view.define("v", source=biz.track.P, group_by="k", compute=dict(n=biz.count()))
    biz.track.P(k=["a", 1])
    if sealed:
        biz.store.segments.seal()
    assert view.get('["a",1]').run().n == 1
    biz.track.P(k={"name": "x"})
    if sealed:
        biz.store.segments.seal()
    with pytest.raises(InvalidQuery, match="holds objects"):
        view.get().run()


def test_what_depends_on_who_is_one_user_follows_the_merges(biz):
    mine = biz.view.define("mine", source=biz.track.P, where=this.user == "u1", compute=dict(n=biz.count()))
    users = biz.view.define("users", source=biz.track.P, compute=dict(n=biz.distinct("user")))
    biz.track.P(user_id="anon")
    biz.track.P(user_id="u1")
    assert (mine.get().run()[0].n, users.get().run()[0].n) == (1, 2)
    biz.identify("anon", "u1")
    assert (mine.get().run()[0].n, users.get().run()[0].n) == (2, 1)
    biz.unidentify("anon")
    assert (mine.get().run()[0].n, users.get().run()[0].n) == (1, 2)
    biz.store.segments.seal()
    biz.identify("anon", "u1")
    assert (mine.get().run()[0].n, users.get().run()[0].n) == (2, 1)


def test_a_view_of_all_events_is_grouped_by_the_event(biz):
    view = biz.view.define(
        "v", source=biz.track.any, group_by="event", compute=dict(n=biz.count(), users=biz.distinct("user"))
    )
    for name in ("A", "A", "B"):
        biz.track[name](user_id="u")
    for _ in range(2):
        assert [tuple(row.values()) for row in view.get().run()] == [("A", 2, 1), ("B", 1, 1)]
        biz.store.segments.seal()
        view.refresh()


def test_a_record_taken_back_twice_goes_once(biz):
    view = define(biz, "kept", group_by="user")
    ids = [biz.track.P(user_id="a", v=n).id for n in range(3)]
    view.get().run()
    biz.retract(ids[0])
    again, _ = biz.store.writer.draft(
        "system", "retract", {"position": 1, "kind": "event", "name": "P", "id": ids[0]}
    )
    biz.store.log.append([again])
    assert view.get("a").run().n == 2
    biz.store.log.append([again])
    assert view.get("a").run().n == 2


def test_thousands_of_records_can_follow_a_look():
    with Business(":memory:", worker=False) as biz:
        define(biz, "kept", group_by="user")
        biz.track.P(user_id="u1", v=1)
        biz.view.kept.get().run()
        biz.track.batch([{"event": "P", "data": {"user_id": "u1", "v": n}} for n in range(3_000)])
        assert biz.view.kept.get("u1").run().n == 3_001


def test_an_int_that_a_statement_read_as_the_float_next_to_it_can_be_taken_back(biz):
    view = biz.view.define(
        "v",
        source=biz.track.P,
        group_by="k",
        compute=dict(middle=biz.percentile(50, "v"), spread=biz.stddev("v")),
    )
    for value in (1, 3.5):
        biz.track.P(k="a", v=value)
    large = biz.track.P(k="a", v=2**53 + 1)
    biz.store.segments.seal()
    assert view.get("a").run().middle == 3.5
    biz.retract(large.id)
    assert view.get("a").run().middle == 2.25
    assert view.get("a").run().spread == pytest.approx(2.5 / 2**0.5)
