"""What is kept of a view for a later process: it begins there, and shows what the log says."""

from __future__ import annotations

import tempfile

import pytest
from comparing import plain
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock, NotFound
from bizcode.view import door, kept, of_records
from bizcode.view.grouped import states

STEP = st.one_of(
    *[
        st.tuples(
            st.just("insert"),
            st.sampled_from(["u1", "u2", "u3", None]),
            st.one_of(st.integers(-3, 3), st.sampled_from([None, 0.5, 0.1, "x", True, 2**62])),
        )
    ]
    * 4,
    st.tuples(st.just("retract"), st.integers(0, 100)),
    st.tuples(st.just("identify"), st.sampled_from(["u1", "u2"]), st.sampled_from(["u2", "u3"])),
    st.tuples(st.just("unidentify"), st.sampled_from(["u1", "u2"])),
    st.tuples(st.just("seal")),
    st.tuples(st.just("look")),
    st.tuples(st.just("look at one")),
    st.tuples(st.just("forget"), st.sampled_from(["u1", "u3"])),
    *[st.tuples(st.just("reopen"))] * 2,
    st.tuples(st.just("other")),
)


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(door, "FEW", 1)
    monkeypatch.setattr(kept, "WORTH", 0)
    monkeypatch.setattr(kept, "_CHUNK", 2)


@pytest.fixture
def read(monkeypatch):
    """From which position on each statement over sealed records read."""
    since: list[int] = []

    def told(session, definition, span=None, *given, **options):
        since.append(span[0])
        return states(session, definition, span, *given, **options)

    monkeypatch.setattr(of_records, "states", told)
    return since


def define(biz, name="kept", group_by=("user", "v")):
    return biz.view.define(
        name,
        source=biz.track.P,
        group_by=group_by,
        compute=dict(
            n=biz.count(),
            total=biz.sum("v"),
            low=biz.min("v"),
            first=biz.first("v"),
            last=biz.last("v"),
            when=biz.max("timestamp"),
            kinds=biz.distinct("v"),
            middle=biz.percentile(50, "v"),
            all=biz.collect("v"),
            users=biz.distinct("user_id"),
        ),
    )


@pytest.mark.parametrize("group_by", ["user", ("user", "v"), "v"])
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEP, max_size=40))
def test_a_later_process_shows_what_the_log_says(group_by, steps):
    clock = ManualClock("2024-03-01")
    with tempfile.TemporaryDirectory() as path:
        biz = Business(path, worker=False, clock=clock)
        other = Business(path, worker=False, clock=clock)
        ids: list[str] = []
        for step in [*steps, ("reopen",)]:
            view = define(biz, group_by=group_by)
            if step[0] == "insert":
                data = {} if step[1] is None else {"user_id": step[1]}
                data |= {} if step[2] is None else {"v": step[2]}
                ids.append(biz.track.P(data).id)
            elif step[0] == "retract" and ids:
                biz.retract(ids.pop(step[1] % len(ids)))
            elif step[0] == "identify" and step[1] != step[2]:
                biz.identify(step[1], step[2])
            elif step[0] == "unidentify":
                try:
                    biz.unidentify(step[1])
                except NotFound:
                    continue
            elif step[0] == "seal":
                biz.store.segments.seal()
            elif step[0] == "look":
                view.get().run()
            elif step[0] == "look at one":
                biz.view.kept.get("u1" if isinstance(group_by, str) else ("u1", 1)).run()
            elif step[0] == "forget":
                biz.forget(step[1])
                ids = [e.id for e in biz.track.P.events().oldest_first().run()]
            elif step[0] == "other":
                other.view.kept.get().run()
                other.close()
                other = Business(path, worker=False, clock=clock)
            elif step[0] == "reopen":
                biz.close()
                biz = Business(path, worker=False, clock=clock)
                with Business(path, worker=False, clock=clock) as fresh:
                    made = define(fresh, "anew", group_by=group_by)
                    made.refresh()
                    assert plain(biz.view.kept.get().run() if steps else []) == plain(made.get().run())
                    made.drop()
        other.close()
        biz.close()


def filled(path):
    with Business(path, worker=False) as biz:
        view = define(biz)
        ids = [biz.track.P(user_id=f"u{n % 5}", v=n).id for n in range(50)]
        biz.store.segments.seal()
        view.get().run()
    return ids


def test_it_begins_where_the_former_one_ended(tmp_path, read):
    ids = filled(tmp_path)
    read.clear()
    with Business(tmp_path, worker=False) as biz:
        assert biz.view.kept.get(("u1", 1)).run().n == 1
        biz.track.P(user_id="u1", v=1)
        biz.retract(ids[2])
        assert biz.view.kept.get(("u1", 1)).run().n == 2
        assert biz.view.kept.get(("u2", 2)).run() is None
    assert read == []
    with Business(tmp_path, worker=False) as biz:
        biz.store.segments.seal()
        biz.track.P(user_id="u1", v=1)
        biz.store.segments.seal()
        assert biz.view.kept.get(("u1", 1)).run().n == 3
        assert sum(row.n for row in biz.view.kept.get()) == 51
    assert all(position >= 50 for position in read)


def test_what_rests_on_something_else_now_is_made_from_the_log(tmp_path, read):
    filled(tmp_path)
    with Business(tmp_path, worker=False) as biz:
        biz.view.kept.update(where={"v": {"gte": 25}})
        assert sum(row.n for row in biz.view.kept.get()) == 25
    read.clear()
    with Business(tmp_path, worker=False) as biz:
        assert sum(row.n for row in biz.view.kept.get()) == 25
        assert read == []
        biz.forget("u1")
    with Business(tmp_path, worker=False) as biz:
        assert sum(row.n for row in biz.view.kept.get()) == 20
        assert read == [0]


def test_a_writing_that_was_broken_off_is_not_begun_with(tmp_path, monkeypatch):
    filled(tmp_path)
    dump, calls = kept.Kept.dump, []

    def stop(made):
        calls.append(made)
        if made.whole:
            raise OSError("power cut")
        return dump(made)

    biz = Business(tmp_path, worker=False)
    biz.track.P(user_id="u1", v=1)
    assert biz.view.kept.get(("u1", 1)).run().n == 2
    monkeypatch.setattr(kept.Kept, "dump", stop)
    with pytest.raises(OSError, match="power cut"):
        biz.close()
    monkeypatch.setattr(kept.Kept, "dump", dump)
    assert [made.whole for made in calls] == [False, True]
    with Business(tmp_path, worker=False) as biz:
        assert kept.load(biz.store.log, "kept") is None
        assert sum(row.n for row in biz.view.kept.get()) == 51
    with Business(tmp_path, worker=False) as biz:
        assert kept.load(biz.store.log, "kept") is not None


def test_nothing_of_a_user_who_is_forgotten_is_kept(tmp_path):
    filled(tmp_path)
    with Business(tmp_path, worker=False) as biz:
        assert any("u1" in key for key, _ in biz.store.log.scan("view-kept:kept"))
        biz.forget("u1")
        assert biz.store.log.scan("view-kept:kept") == []


@pytest.mark.parametrize("many", [2, 3, 4])
def test_groups_with_any_number_of_distinct_values_are_kept(tmp_path, read, many):
    with Business(tmp_path, worker=False) as biz:
        view = biz.view.define(
            "v", source=biz.track.P, group_by="k", compute=dict(kinds=biz.distinct("v"), all=biz.collect("v"))
        )
        for n in range(many):
            biz.track.P(k="a", v=n)
        view.get().run()
        biz.store.segments.seal()
    with Business(tmp_path, worker=False) as biz:
        biz.track.P(k="a", v="x")
        assert biz.view.v.get("a").run().kinds == many + 1
        assert biz.view.v.get("a").run().all == [*range(many), "x"]
    assert read == []


def test_a_merge_undone_meanwhile_is_undone_in_what_was_kept(tmp_path):
    with Business(tmp_path, worker=False) as biz:
        view = define(biz, group_by="user")
        for user in ("a", "b", "b"):
            biz.track.P(user_id=user, v=1)
        biz.identify("a", "b")
        assert view.get("b").run().n == 3
    with Business(tmp_path, worker=False) as biz:
        assert biz.view.kept.get("b").run().n == 3
        biz.unidentify("a")
    with Business(tmp_path, worker=False) as biz:
        assert {row.user: row.n for row in biz.view.kept.get()} == {"a": 1, "b": 2}


def test_a_dropped_view_leaves_nothing(tmp_path):
    filled(tmp_path)
    with Business(tmp_path, worker=False) as biz:
        biz.view.kept.drop()
        assert biz.store.log.scan("view-kept") == biz.store.log.scan("view-kept:kept") == []


def test_a_running_process_keeps_groups_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "MANY", 10)
    with Business(tmp_path, worker=False) as biz:
        view = define(biz)
        for n in range(20):
            biz.track.P(user_id="a", v=n)
        for _ in range(2):
            view.get().run()
        biz.drain()
        found = kept.load(biz.store.log, "kept")
        assert found is not None
        assert found.position == 20
        biz.drain()
        again = kept.load(biz.store.log, "kept")
        assert again is not None
        assert again.token == found.token
