"""A maintained view is the view made anew, after any inserts, retractions, merges, expiry and sealing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock, NotFound, this

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


def plain(rows):
    """Rows to compare: 1 and 1.0 are one number, also in a list."""

    def one(value):
        if isinstance(value, list):
            return [one(item) for item in value]
        return float(f"{value:.9g}") if type(value) in (int, float) else value

    return sorted(repr(sorted((name, one(value)) for name, value in row.items())) for row in rows)


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
        assert sum(row.n for row in found) == expected(biz, clock, last)


def clock_time(clock):
    from bizcode import when

    return when.to_datetime(clock.now())


def expected(biz, clock, last):
    events = biz.track.P.events().run()
    edge = None if last is None else clock_time(clock) - timedelta(minutes=30)
    return sum(1 for event in events if edge is None or event.timestamp >= edge)


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


def test_thousands_of_records_can_follow_a_look():
    with Business(":memory:", worker=False) as biz:
        define(biz, "kept", group_by="user")
        biz.track.P(user_id="u1", v=1)
        biz.view.kept.get().run()
        biz.track.batch([{"event": "P", "data": {"user_id": "u1", "v": n}} for n in range(3_000)])
        assert biz.view.kept.get("u1").run().n == 3_001
