"""What the tail knows of its records without asking the database."""

from __future__ import annotations

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode import Business
from bizcode.engine import Session
from bizcode.engine.tail import probe, types_in
from bizcode.record import Stored

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.sampled_from([1.0, 1e300, -0.5])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab0é"), inner, max_size=3),
)
_PATHS = [("a",), ("b",), ("a", "b"), ("a", "0"), ("é",)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abé"), _VALUES), max_size=4))
def test_types_read_from_the_records_are_those_that_the_database_finds(datas):
    texts = [orjson.dumps(data).decode() for data in datas]
    rows = [Stored(n, "event", "A", 0, text) for n, text in enumerate(texts)]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE tail (data VARCHAR)")
        for text in texts:
            connection.execute("INSERT INTO tail VALUES ($1)", [text])
        assert types_in(rows, _PATHS) == probe(connection, "tail", _PATHS, "TRUE", [])


def test_a_type_that_comes_after_a_look_is_seen_by_the_next(biz):
    for value in ("1", 2, 2.5, None, True, [1]):
        biz.track.A(v=value)
        assert biz.track.A.count().by("v").run()[value if not isinstance(value, list) else "[1]"] >= 1
    assert biz.track.A.sum("v").run() == 4.5


def rows_at_hand(biz):
    with biz.store.engine.session() as session:
        return session.fetch(f"SELECT count(*) FROM {session.view.table}")[0][0]


def test_what_is_sealed_leaves_memory(biz):
    for n in range(3):
        biz.track.A(n=n)
        assert rows_at_hand(biz) == 1
        biz.store.segments.seal()
        assert rows_at_hand(biz) == 0


def seal(biz, other):
    biz.store.segments.seal()


def seal_a_merge_that_was_not_seen(biz, other):
    other.identify("x", "y")
    biz.store.segments.seal()


def seal_by_another_and_write_on(biz, other):
    other.track.A({"user_id": "u4"}, at="2024-03-04")
    other.store.segments.seal()
    other.track.B({"user_id": "u4", "p": "late"}, at="2024-03-05")


def erase(biz, other):
    biz.forget("u3")


def merge_two_users(biz, other):
    biz.identify("u1", "u3")


def undo_a_merge(biz, other):
    biz.unidentify("u6")


@pytest.mark.parametrize(
    "change",
    [
        seal,
        seal_a_merge_that_was_not_seen,
        seal_by_another_and_write_on,
        erase,
        merge_two_users,
        undo_a_merge,
    ],
)
def test_a_question_of_several_statements_is_asked_of_one_moment_whatever_is_changed_meanwhile(
    biz, monkeypatch, change
):
    for user, names in {"u1": "AB", "u2": "A", "u3": "ABB", "u5": "A", "u6": "B"}.items():
        for day, name in enumerate(names, 1):
            biz.track[name]({"user_id": user, "p": day}, at=f"2024-03-0{day}")
    biz.identify("u6", "u5")
    with Business(biz.store.root, clock=biz.clock, worker=False) as other:
        asked = biz.track.funnel(["A", "B"]).by("p")
        expected = asked.run()
        keep, kept = Session.keep, []

        def changed_between(self, table, sql, parameters=None):
            kept.append(table)
            if len(kept) == 2:
                change(biz, other)
                biz.track.any.count().by("user").run()
            keep(self, table, sql, parameters)

        monkeypatch.setattr(Session, "keep", changed_between)
        assert asked.run() == expected
        assert kept == ["funnel_starts", "funnel_later", "funnel_users"]
    assert len(table_names(biz)) == 2


def table_names(biz):
    engine = biz.store.engine
    found = engine.connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = $1", [engine.schema]
    )
    return [name for (name,) in found.fetchall() if name != "names"]


def test_the_types_of_rows_that_have_left_are_known_to_the_question_that_reads_them(biz):
    biz.track.A(v="text")
    with (
        Business(biz.store.root, clock=biz.clock, worker=False) as other,
        biz.store.engine.session() as before,
    ):
        seal_a_merge_that_was_not_seen(biz, other)
        biz.track.A(v=1)
        assert biz.track.A.count().by("v").run() == {"text": 1, 1: 1}
        assert before.tail_types("event", "A", [("v",)], False) == {("v",): {"text"}}
