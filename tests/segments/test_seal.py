"""From the tail into files: columns, schemas, what is due, who comes first, and what may go wrong."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import duckdb
import orjson
import pyarrow.parquet as pq
import pytest

from bizcode.errors import StorageError
from bizcode.record import ENTITY, EVENT, MEASURE, Draft
from bizcode.segments import SegmentStore, files
from bizcode.segments.schema import COLUMNS

from .conftest import TIME, data_of, everything


def columns(store, name="E", kind=EVENT):
    return {(c.path, c.type): c.column for c in store.catalog().columns(kind, name)}


def test_sealed_records_leave_the_tail_and_the_head_stays(store, write):
    write(*({"n": n} for n in range(5)))
    assert store.seal(3) == 3
    assert [row.position for row in store.log.read(0)] == [4, 5]
    assert store.catalog().sealed_to == 3
    assert store.log.head() == 5
    assert store.seal() == 2
    assert store.seal() == 0
    assert [d["n"] for d in data_of(store)] == [0, 1, 2, 3, 4]


def test_sealing_nothing_writes_nothing(store):
    assert store.seal() == 0
    assert store.seal(100) == 0
    assert not (store.directory / "segments").exists()


def test_it_is_due_when_the_tail_is_long_enough(store, write):
    small = SegmentStore(store.directory, store.log, seal_rows=3)
    write({}, {})
    assert not small.due()
    write({})
    assert small.due()
    small.seal()
    assert not small.due()


def test_each_type_of_a_property_has_a_column_of_its_own(store, write):
    write({"a": 1}, {"a": "x"}, {"a": True}, {"a": [1]}, {"a": "y"})
    store.seal()
    assert columns(store) == {
        (("a",), "text"): "a",
        (("a",), "int"): "a:int",
        (("a",), "bool"): "a:bool",
        (("a",), "json"): "a:json",
    }


def test_a_column_keeps_its_name_in_later_files(store, write):
    write({"a": 1})
    store.seal()
    write({"a": "x"}, {"a": "y"}, {"a": 2})
    store.seal()
    assert columns(store) == {(("a",), "int"): "a", (("a",), "text"): "a:text"}
    first, second = store.catalog().of(EVENT, "E")
    assert first.columns == {"a"}
    assert second.columns == {"a", "a:text"}


def test_columns_are_told_apart_without_regard_to_case_and_from_the_fixed_ones(store, write):
    write({"Plan": "a", "plan": "b", "user": "c", "rest": 1, "a.b": 2, "a": {"b": 3}, "": 4, "value": 5})
    store.seal()
    named = columns(store)
    assert named[("Plan",), "text"] == "Plan"
    assert named[("plan",), "text"] == "plan~2"
    assert named[("user",), "text"] == "user~2"
    assert named[("rest",), "int"] == "rest~2"
    assert {named[("a.b",), "int"], named[("a", "b"), "int"]} == {"a.b", "a.b~2"}
    assert named[("",), "int"] == "~"
    assert named[("value",), "int"] == "value"
    assert len({name.casefold() for name in named.values()}) == len(named)


def test_whole_numbers_beside_fractions_become_doubles_where_that_is_exact(store, write):
    write({"a": 1}, {"a": 2.5}, {"b": 2**53 + 1}, {"b": 0.5})
    store.seal()
    assert columns(store) == {(("a",), "double"): "a", (("b",), "double"): "b", (("b",), "int"): "b:int"}
    assert data_of(store) == [{"a": 1.0}, {"a": 2.5}, {"b": 2**53 + 1}, {"b": 0.5}]


def test_what_has_no_column_is_listed_and_kept(store, write):
    deep = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    write({"none": None, "x": 1}, {"empty": {}, "in": {"none": None, "x": 1}}, deep)
    store.seal()
    (segment,) = store.catalog().segments
    assert set(segment.rest or ()) == {"none", "empty", "in", "a"}
    assert data_of(store) == [{"none": None, "x": 1}, {"empty": {}, "in": {"none": None, "x": 1}}, deep]
    seen = {(path, type) for path, type, _, _ in store.seen(EVENT, "E")}
    assert {(("none",), "null"), (("empty",), "object"), (("a",), "object"), (("in", "x"), "int")} <= seen


def test_a_name_has_a_limited_number_of_columns_and_loses_nothing_beyond(store, write):
    write({f"k{n}": n for n in range(COLUMNS + 50)}, {f"k{COLUMNS + 10}": "text"})
    store.seal()
    assert len(store.catalog().columns(EVENT, "E")) == COLUMNS
    (segment,) = store.catalog().segments
    assert len(segment.rest or ()) == 50
    assert data_of(store) == [{f"k{n}": n for n in range(COLUMNS + 50)}, {f"k{COLUMNS + 10}": "text"}]


def test_schemas_have_versions_and_know_when_a_property_was_seen(store, write):
    write({"a": 1}, at=10)
    write({"a": 1}, at=50)
    store.seal()
    write({"b": 1, "a": 2}, at=30)
    store.seal()
    write({"a": 3}, at=5)
    store.seal()
    schema = store.schema(EVENT, "E")
    assert schema.version == 2
    assert [[c.column for c in added] for added in schema.versions()] == [["a"], ["b"]]
    assert list(store.seen(EVENT, "E")) == [
        (("a",), "int", TIME + 5, TIME + 50),
        (("b",), "int", TIME + 30, TIME + 30),
    ]


def test_files_are_sorted_by_time_and_any_engine_reads_them(store, write):
    for at in (30, 10, 20, 10):
        write({"at": at, "tags": ["x"], "address": {"city": "Bonn"}}, at=at, user="u1")
    store.seal()
    (segment,) = store.catalog().segments
    path = store.directory / segment.file
    found = duckdb.sql(
        f'SELECT position, epoch_us(timestamp), "at", "address.city", tags, "user" FROM \'{path}\''
    ).fetchall()
    assert found == [
        (p, TIME + at, at, "Bonn", '["x"]', "u1") for p, at in ((2, 10), (4, 10), (3, 20), (1, 30))
    ]
    assert (segment.rows, segment.first_position, segment.last_position) == (4, 1, 4)
    assert (segment.min_time, segment.max_time, segment.users) == (TIME + 10, TIME + 30, True)
    assert segment.bytes == path.stat().st_size
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert all(group.column(n).statistics.has_min_max for n in (0, 1))


def test_catalogs_are_pruned_by_kind_name_and_time(store, write):
    write({}, name="A", at=10)
    write({}, name="B", at=20)
    store.log.append([Draft(MEASURE, "m", TIME + 30, "{}", value=1)])
    store.seal()
    write({}, name="A", at=40)
    store.seal()
    catalog = store.catalog()

    def found(*arguments):
        return [(s.name, s.min_time - TIME) for s in catalog.select(*arguments)]

    assert found(EVENT, None, None, None) == [("A", 10), ("A", 40), ("B", 20)]
    assert found(EVENT, ["A", "nothing"], None, None) == [("A", 10), ("A", 40)]
    assert found(EVENT, None, TIME + 20, TIME + 40) == [("B", 20)]
    assert found(MEASURE, None, TIME + 31, None) == []
    assert catalog.names(EVENT) == ["A", "B"]


def test_a_catalog_is_of_its_readers_moment(store, write):
    write({})
    with store.log.snapshot() as reader:
        assert store.catalog(reader).sealed_to == 0
        store.seal()
        assert store.catalog().sealed_to == 1
        assert store.catalog(reader).segments == ()
    assert len(store.catalog().segments) == 1


def test_entity_events_are_sealed_and_stay_readable_by_entity(store):
    store.log.append([Draft(ENTITY, "Order.created", TIME, '{"n":1}', entity="Order/1")])
    store.seal()
    (row,) = everything(store)
    assert (row.entity, row.version) == ("Order/1", 1)
    assert [e.position for e in store.log.entity_events("Order/1")] == [1]


def test_a_long_tail_is_sealed_piece_by_piece(store, write, monkeypatch):
    monkeypatch.setattr("bizcode.segments.seal.ROWS", 600)
    write(*({"n": n} for n in range(2000)))
    assert store.seal() == 2000
    assert [s.rows for s in store.catalog().of(EVENT, "E")] == [1024, 976]
    assert [d["n"] for d in data_of(store)] == list(range(2000))


def test_records_erased_from_the_tail_meanwhile_are_not_brought_back(store, write, monkeypatch):
    write({"n": 1}, {"n": 2})
    read = type(store.log).read
    calls = []

    def reading(log, *arguments, **options):
        rows = read(log, *arguments, **options)
        if not calls:
            calls.append(1)
            with log.transaction() as tx:
                tx.erase([1])
                tx.put("settings", "erased", b"1")
        return rows

    monkeypatch.setattr(type(store.log), "read", reading)
    assert store.seal() == 1
    assert data_of(store) == [{"n": 2}]
    assert store.doctor().ok


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_tail_as_it_was(store, write, monkeypatch, failing):
    write({"n": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, failing, fail)
        with pytest.raises(StorageError, match=r"sealing into .* failed: the disk that holds .* is full"):
            store.seal()
    assert [row.position for row in store.log.read(0)] == [1]
    assert not [path for path in (store.directory / "segments").rglob("*") if path.is_file()]
    assert store.doctor().problems == []
    assert store.seal() == 1


def test_a_really_full_disk_leaves_the_tail_as_it_was(store, write, python):
    write(*({"text": os.urandom(200).hex()} for _ in range(2000)))
    script = """
import resource, signal, sys
from pathlib import Path
from bizcode.errors import StorageError
from bizcode.log.sqlite import open_log
from bizcode.segments import SegmentStore
log = open_log(sys.argv[1])
store = SegmentStore(Path(sys.argv[1]), log)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.seal()
except StorageError as error:
    print(error)
"""
    out, errors = python(script, store.directory).communicate(timeout=60)
    assert "would be larger than allowed" in out, errors
    assert len(store.log.read(0)) == 2000
    assert store.doctor().problems == []


def test_a_read_only_store_can_be_read_and_says_that_it_cant_be_sealed(store, write, python):
    write({"n": 1})
    store.seal()
    write({"n": 2})
    store.log.close()
    script = """
import os, sys
from pathlib import Path
from bizcode.errors import StorageError
from bizcode.log.sqlite import open_log
from bizcode.segments import SegmentStore
directory = Path(sys.argv[1])
for path in [directory, *directory.rglob("*")]:
    path.chmod(0o555 if path.is_dir() else 0o444)
for once in range(2):
    log = open_log(directory)
    store = SegmentStore(directory, log)
    found = [row.data for rows in store.rows(0) for row in rows], store.at([1])[0].position, store.doctor().records
    if not once:
        log.close()
        if os.geteuid() == 0:
            os.setuid(65534)
print(*found)
for change in (store.seal, store.merge, lambda: store.erase([1]), lambda: store.doctor(mend=True)):
    try:
        change()
        print("changed")
    except StorageError as error:
        print(error)
"""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        copy = shutil.copytree(store.directory, Path(directory) / "acme")
        try:
            out, errors = python(script, copy).communicate(timeout=60)
        finally:
            for path in [copy, *copy.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)
    lines = out.splitlines()
    assert lines[:1] == ["""['{"n":1}'] 1 2"""], errors
    assert len(lines) == 5
    assert all("read-only" in line for line in lines[1:])


def test_several_processes_seal_and_merge_at_once_and_nothing_is_lost_or_twice(store, python):
    script = """
import sys
from pathlib import Path
from bizcode.log.sqlite import open_log
from bizcode.record import Draft
from bizcode.segments import SegmentStore
log = open_log(sys.argv[1])
store = SegmentStore(Path(sys.argv[1]), log, seal_rows=50)
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    log.append([Draft("event", f"E{i % 3}", n, '{"n":%d}' % (n * 10 + i), id=f"{sys.argv[2]}-{n}-{i}") for i in range(10)])
    if store.due():
        store.seal()
        store.merge()
    for rows in store.rows(0, names=["E1"]):
        pass
"""
    running = [python(script, store.directory, n) for n in range(4)]
    for each in running:
        assert each.stdout.readline() == "ready\n"
    for each in running:
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in running:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors
    store.seal()
    rows = everything(store)
    assert [row.position for row in rows] == list(range(1, 1601))
    assert {row.id for row in rows} == {
        f"{p}-{n}-{i}" for p in range(4) for n in range(40) for i in range(10)
    }
    report = store.doctor()
    assert report.problems == [], str(report)


def test_a_sealed_range_is_known_with_its_number_of_records(store, write):
    write({}, {}, name="A")
    write({}, name="B")
    store.seal()
    assert [orjson.loads(value) for _, value in store.log.scan("sealed-range")] == [[1, 3, 3]]
