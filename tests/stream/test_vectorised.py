"""Whole ranges at once give what one record at a time gives, whatever the order, the cut and the kind of window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock, this
from bizcode.consume import consumer as consuming
from bizcode.stream import feed

START = datetime(2024, 3, 30, 22, tzinfo=UTC)

EVENT = st.tuples(
    st.integers(0, 300),
    st.sampled_from(["a", "b", 1, 1.0, None, "a|b"]),
    st.one_of(st.none(), st.integers(-5, 5), st.floats(-2, 2), st.sampled_from(["x", True])),
)

WINDOWS = {
    "tumbling": lambda s: s.window.tumbling("20m"),
    "daily": lambda s: s.window.tumbling("1d"),
    "sliding": lambda s: s.window.sliding("1h", "15m"),
    "session": lambda s: s.window.session("17m"),
}


def pipeline(biz, kind, bound, lateness):
    source = biz.stream.track.Tick.filter(this.skip != True).key_by("k").out_of_order(bound)  # noqa: E712
    if lateness:
        source = source.lateness(lateness)
    return WINDOWS[kind](source).aggregate(
        n=biz.count(),
        total=biz.sum("v"),
        mean=biz.avg("v"),
        low=biz.min("v"),
        high=biz.max("v"),
        first=biz.first("v"),
        last=biz.last("timestamp"),
        kinds=biz.distinct("v"),
        middle=biz.percentile(50, "v"),
        spread=biz.stddev("v"),
    )


def results(monkeypatch, events, cuts, kind, bound, lateness, at_least, seal):
    monkeypatch.setattr(consuming, "RANGE_FROM", at_least)
    clock = ManualClock(START + timedelta(days=10))
    with Business(":memory:", clock=clock, worker=False, timezone="Europe/Berlin") as biz:
        found, late = [], []
        made = pipeline(biz, kind, bound, lateness).late(lambda e: late.append(e.position))
        made.to.measure.standing(value="n").to(lambda e: found.append(dict(e))).named("s").start()
        last = 0
        for cut in [*sorted(cuts), len(events)]:
            batch = [
                {
                    "event": "Tick",
                    "data": {"k": k, **({} if v is None else {"v": v})},
                    "at": START + timedelta(minutes=m),
                }
                for m, k, v in events[last:cut]
            ]
            last = max(last, cut)
            if batch:
                biz.track.batch(batch)
                if seal:
                    biz.store.segments.seal()
            biz.drain()
        clock.advance("10d")
        biz.drain()
        standing = (
            sorted(
                (e.timestamp, repr(sorted(e.data.items(), key=str)), e.value)
                for e in biz.measure.standing.events().run()
            )
            if hasattr(biz.measure.standing, "events")
            else []
        )
        listed = biz.stream.list().run()[0]
        history = [dict(row) for row in made.run(since="start").run()]
        return found, sorted(late), listed.late, standing, history


def text(rows):
    """Rows in an order of their own; a whole float, as sealing may make of an int, is that int."""
    whole = [
        {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in row.items()} for row in rows
    ]
    return sorted(repr(sorted(row.items())) for row in whole)


@pytest.mark.parametrize("kind", sorted(WINDOWS))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(EVENT, max_size=25),
    cuts=st.lists(st.integers(0, 25), max_size=3),
    bound=st.sampled_from(["0s", "10m", "2h"]),
    lateness=st.sampled_from(["", "30m"]),
    seal=st.booleans(),
)
def test_ranges_give_what_single_records_give(monkeypatch, kind, events, cuts, bound, lateness, seal):
    cuts = [cut for cut in cuts if cut <= len(events)]
    one = results(monkeypatch, events, cuts, kind, bound, lateness, 10**9, False)
    many = results(monkeypatch, events, cuts, kind, bound, lateness, 1, seal)
    assert text(many[0]) == text(one[0])
    assert many[1:4] == one[1:4]
    assert text(many[4]) == text(one[4])


@pytest.mark.parametrize("seal", [False, True])
def test_the_entity_is_a_key_of_ranges_too(monkeypatch, seal):
    monkeypatch.setattr(consuming, "RANGE_FROM", 1)
    found = []
    clock = ManualClock(START)
    with Business(":memory:", clock=clock, worker=False) as biz:
        stream = biz.stream.Order.paid.key_by("entity").window.tumbling("1h").aggregate(n=biz.count())
        stream.to(found.append).named("s").start()
        for order in ("o1", "o2", "o1"):
            biz.Order(order).append("paid")
        if seal:
            biz.store.segments.seal()
        biz.drain()
        clock.advance("2h")
        biz.drain()
        rows = stream.run().run()
    assert [(e.key, e.n) for e in found] == [("o1", 2), ("o2", 1)]
    assert [(e.key, e.n) for e in rows] == [("o1", 2), ("o2", 1)]


OWN = {
    "key user": lambda biz, s: s.key_by("user"),
    "key event and k": lambda biz, s: s.key_by("event", "k"),
    "key position": lambda biz, s: s.key_by("position"),
    "key id": lambda biz, s: s.key_by("id"),
    "key timestamp": lambda biz, s: s.key_by("timestamp"),
    "user": lambda biz, s: s.filter(user="u1"),
    "own user": lambda biz, s: s.filter(this.user == "u1"),
    "position": lambda biz, s: s.filter(position__gt=2),
}


@pytest.mark.parametrize("form", OWN)
@pytest.mark.parametrize("named", [False, True], ids=["", "some have such a property"])
@pytest.mark.parametrize("seal", [False, True])
def test_what_a_record_has_of_its_own_is_the_same_by_range(monkeypatch, form, named, seal):
    def asked(at_least):
        monkeypatch.setattr(consuming, "RANGE_FROM", at_least)
        found = []
        with Business(":memory:", clock=ManualClock(START + timedelta(days=1)), worker=False) as biz:
            stream = (
                OWN[form](biz, biz.stream.track.Tick)
                .window.tumbling("1h")
                .aggregate(
                    n=biz.count(),
                    users=biz.distinct("user"),
                    written=biz.distinct(this.user),
                    first=biz.first("user"),
                    name=biz.last("event"),
                    high=biz.max("position"),
                    places=biz.sum("position"),
                )
            )
            for n, user in enumerate(("anon", "u1", None, "anon", "u1")):
                data = {
                    "k": n % 2,
                    **({"user": (1, None, "anon")[n % 3], "event": "x"} if named and n > 2 else {}),
                }
                biz.track.Tick(data, user=user, id=f"id{n}", at=START + timedelta(minutes=n))
                if n == 1:
                    biz.identify("anon", "u1")
            if seal:
                biz.store.segments.seal()
            stream.to(lambda e: found.append(dict(e))).named("s").start(since="start")
            biz.drain()
            biz.clock.advance("2h")
            biz.drain()
            return found, [dict(row) for row in stream.run().run()]

    one, many = asked(10**9), asked(1)
    assert text(one[0]) == text(many[0]) == text(many[1]) == text(one[1])
    assert one[0]


@pytest.mark.parametrize("at_least", [1, 10**9])
def test_a_range_has_nothing_from_before_the_time_that_the_stream_began_at(monkeypatch, at_least):
    monkeypatch.setattr(consuming, "RANGE_FROM", at_least)
    got = []
    with Business(":memory:", clock=ManualClock(START), worker=False) as biz:
        for minute in (10, 30, 31, 90):
            biz.track.Tick({"n": 1}, at=START + timedelta(minutes=minute))
        hourly = biz.stream.track.Tick.window.tumbling("1h").aggregate(n=biz.count())
        hourly.to(lambda e: got.append(e.n)).named("s").start(since=START + timedelta(minutes=20))
        biz.drain()
    assert got == [2]


@pytest.mark.parametrize("seal", [False, True])
def test_an_object_among_keys_and_values_does_not_stop_a_stream_that_is_behind(monkeypatch, seal):
    def asked(at_least):
        monkeypatch.setattr(consuming, "RANGE_FROM", at_least)
        monkeypatch.setattr(feed, "RANGE_FROM", at_least)
        found = []
        with Business(":memory:", clock=ManualClock(START + timedelta(days=1)), worker=False) as biz:
            biz.stream.track.Tick.key_by("k").window.tumbling("1h").aggregate(
                n=biz.count(), first=biz.first("v")
            ).to(lambda e: found.append(dict(e))).named("s").start()
            windows = biz.stream.track.Tick.key_by("k").window.tumbling("1h").aggregate(n=biz.count())
            biz.view.define("seen", source=windows, compute=dict(n=biz.sum("n")))
            for n, given in enumerate([{"k": 1, "v": 2}, {"k": {"a": 1}, "v": 1}, {"k": 1, "v": {"b": 2}}]):
                biz.track.Tick(given, at=START + timedelta(minutes=n))
            if seal:
                biz.store.segments.seal()
            biz.drain()
            biz.clock.advance("2h")
            biz.drain()
            assert biz.dead_letters.list().run() == []
            return found, [dict(row) for row in windows.run().run()], biz.view.seen.get().run()[0].n

    one, many = asked(10**9), asked(1)
    assert one == many
    assert (len(one[0]), len(one[1]), one[2]) == (2, 2, 3)
