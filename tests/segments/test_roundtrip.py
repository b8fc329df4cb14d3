"""What was stored comes back: arbitrary JSON objects, sealed, merged, read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode.log.sqlite import open_log
from bizcode.record import ENTITY, EVENT, MEASURE, SYSTEM, Draft, Stored
from bizcode.segments import SegmentStore

from .conftest import TIME

names = st.one_of(
    st.sampled_from(
        [
            "a",
            "A",
            "a.b",
            "b",
            "user",
            "id",
            "value",
            "value:int",
            "position",
            "rest",
            "a:text",
            "a~2",
            "",
            " ",
        ]
    ),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
)
integers = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 0.1]),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(['"', "\\", "\n", "\x00", "null", "1", "{}", "ünï", "\u2028", "😀", ""]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(names, values, max_size=5)


def same(a: Any, b: Any) -> bool:
    """Equal as JSON values; an int may have become the double of the same value, nothing else."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if type(a) is int and type(b) is float:
        return b == a and abs(a) <= 2**53
    return type(a) is type(b) and (a == b and str(a) == str(b))


def expected(drafts: list[Draft], versions: list[int | None]) -> list[Stored]:
    """What the log makes of drafts."""
    return [
        Stored(n, d.kind, d.name, d.time, d.data, d.user, d.id, d.entity, v, d.value, d.experiments)
        for n, (d, v) in enumerate(zip(drafts, versions, strict=True), 1)
    ]


def check(found: list[Stored], wanted: list[Stored]) -> None:
    """Every field as stored; the data equal as JSON, numbers perhaps widened."""
    assert [r.position for r in found] == [r.position for r in wanted]
    for a, b in zip(wanted, found, strict=True):
        assert same(orjson.loads(a.data), orjson.loads(b.data)), (a.data, b.data)
        assert a._replace(data="", value=None) == b._replace(data="", value=None)
        assert (a.value is None and b.value is None) or same(a.value, b.value)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(objects, st.integers(-2, 2)), min_size=1, max_size=25),
    st.lists(st.integers(1, 12), max_size=5),
)
def test_arbitrary_objects_come_back_sealed_and_merged(documents, cuts):
    drafts = [
        Draft(EVENT, "E", TIME + shift, orjson.dumps(document).decode()) for document, shift in documents
    ]
    wanted = expected(drafts, [None] * len(drafts))
    with tempfile.TemporaryDirectory() as directory:
        log = open_log(directory)
        store = SegmentStore(Path(directory), log)
        log.append(drafts)
        at = 0
        for cut in cuts:
            at += cut
            store.seal(at)
        store.seal()
        check([row for rows in store.rows(0, batch=7) for row in rows], wanted)
        check(store.at(range(2, len(drafts) + 1, 2)), wanted[1::2])
        store.merge(all=True)
        assert len(store.catalog().segments) == 1
        check([row for rows in store.rows(0) for row in rows], wanted)
        report = store.doctor()
        assert report.ok, str(report)
        log.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.one_of(integers, st.floats(allow_nan=False, allow_infinity=False)), min_size=1)))
def test_measured_numbers_keep_their_value_and_where_it_matters_their_type(parts):
    drafts = [Draft(MEASURE, "m", TIME, "{}", value=value) for part in parts for value in part]
    with tempfile.TemporaryDirectory() as directory:
        log = open_log(directory)
        store = SegmentStore(Path(directory), log)
        for part in parts:
            log.append([Draft(MEASURE, "m", TIME, "{}", value=value) for value in part])
            store.seal()
        wanted = expected(drafts, [None] * len(drafts))
        check([row for rows in store.rows(0) for row in rows], wanted)
        store.merge(all=True)
        check([row for rows in store.rows(0) for row in rows], wanted)
        log.close()


def test_every_kind_keeps_all_its_fields(store):
    drafts = [
        Draft(EVENT, "Sign up/é.x", TIME, '{"plan":"pro"}', "u1", "id-1", experiments='{"exp":"a"}'),
        Draft(MEASURE, "revenue", TIME + 1, '{"plan":"pro"}', "u1", "id-2", value=2.5),
        Draft(MEASURE, "revenue", TIME, "{}", value=7),
        Draft(ENTITY, "Order.created", TIME, '{"total":1}', None, "id-3", "Order/o1"),
        Draft(ENTITY, "Order.paid", TIME, "{}", "u2", None, "Order/o1"),
        Draft(SYSTEM, "identify", TIME, '{"alias":"a","user":"u"}'),
        Draft(EVENT, "Sign up/é.x", TIME, "{}"),
    ]
    store.log.append(drafts)
    wanted = expected(drafts, [None, None, None, 1, 2, None, None])
    assert store.seal() == 7
    assert store.log.read(0) == []
    check([row for rows in store.rows(0) for row in rows], wanted)
    check(store.at([7, 1, 99]), [wanted[0], wanted[6]])
    assert store.catalog().names(EVENT) == ["Sign up/é.x"]


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "A" * 200, "ü" * 200, " x ", "a*b?[c]", "x=1", "con", "%2E"]
)
def test_any_name_gets_a_directory_below_its_kind(store, name):
    store.log.append([Draft(EVENT, name, TIME, '{"a":1}')])
    store.seal()
    (segment,) = store.catalog().segments
    path = (store.directory / segment.file).resolve()
    assert path.is_file()
    assert path.parent.parent == (store.directory / "segments" / "event").resolve()
    assert [row.name for rows in store.rows(0) for row in rows] == [name]
