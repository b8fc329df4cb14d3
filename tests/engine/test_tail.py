"""What the tail knows of its records without asking the database."""

from __future__ import annotations

import duckdb
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

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
