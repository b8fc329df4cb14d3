"""Small files become large ones: which, how, and when the old ones go."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode.errors import StorageError
from bizcode.record import EVENT, MEASURE, Draft
from bizcode.segments import Segment, merge
from bizcode.segments.merge import FAN, LARGEST, runs

from .conftest import TIME, data_of, everything

SOME = Segment("s", EVENT, "E", "f", 1, 1, 1, 0, 0, 100, "", frozenset(), None, False)


def files_of(store):
    return sorted(
        p.relative_to(store.directory).as_posix() for p in store.directory.rglob("*.parquet") if p.is_file()
    )


def some(*rows):
    return [replace(SOME, id=str(n), rows=count, first_position=n) for n, count in enumerate(rows)]


def test_a_few_like_neighbours_are_merged_and_a_large_one_is_left_alone():
    segments = some(1000, 10, 10, 10, 10, 10)
    assert runs(segments) == [segments[1:]]
    assert runs(some(10, 10, 10)) == []
    assert runs(some(1000, 10, 10, 10)) == []
    assert runs(some(10, 10), all=True) == [some(10, 10)]


@given(st.lists(st.integers(1, LARGEST), max_size=40), st.booleans())
def test_runs_are_neighbours_that_fit_one_file(rows, all):
    segments = some(*rows)
    found = runs(segments, all)
    for run in found:
        at = int(run[0].id)
        assert run == segments[at : at + len(run)]
        assert sum(s.rows for s in run) <= LARGEST
        assert len(run) >= (2 if all else FAN)
    assert len({s.id for run in found for s in run}) == sum(map(len, found))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(50_000, 150_000), min_size=100, max_size=250))
def test_a_record_is_rewritten_a_few_times_at_most_and_files_stay_few(seals):
    segments: list[Segment] = []
    written = 0
    for n, rows in enumerate(seals):
        segments.append(replace(SOME, id=str(n), rows=rows, first_position=n))
        while found := runs(segments):
            for run in found:
                at = segments.index(run[0])
                total = sum(s.rows for s in run)
                written += total
                segments[at : at + len(run)] = [replace(run[0], rows=total)]
    total = sum(seals)
    assert written <= 4 * total
    assert len(segments) <= total / (LARGEST / 4) + 12


def test_merging_keeps_every_record_and_the_order_of_time(store, write):
    for part in range(5):
        for n in range(20):
            write({"n": part * 20 + n, f"only{part}": True}, at=(n * 7) % 20)
        store.seal()
    before = everything(store)
    assert store.merge() == 5
    (segment,) = store.catalog().segments
    assert everything(store) == before
    table = pq.read_table(store.directory / segment.file)
    keys = list(zip(table["timestamp"].to_pylist(), table["position"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert segment.columns == {"n", *(f"only{part}" for part in range(5))}
    assert files_of(store) == [segment.file]
    assert store.doctor().problems == []


def test_names_are_merged_apart(store, write):
    for _ in range(4):
        write({"a": 1}, name="A")
        write({"b": 1}, name="B")
        store.seal()
    assert store.merge() == 8
    assert [(s.name, s.rows) for s in store.catalog().segments] == [("A", 4), ("B", 4)]


def test_where_whole_numbers_meet_fractions_they_become_doubles_if_exact(store, write):
    write({"a": 1, "b": 2**53 + 1})
    store.seal()
    write({"a": 0.5, "b": 0.5})
    store.seal()
    store.merge(all=True)
    (segment,) = store.catalog().segments
    assert segment.columns == {"a:double", "b", "b:double"}
    assert data_of(store) == [{"a": 1.0, "b": 2**53 + 1}, {"a": 0.5, "b": 0.5}]


def test_measured_whole_numbers_and_fractions_meet_in_one_column(store):
    for value in (3, 0.5, 4):
        store.log.append([Draft(MEASURE, "m", TIME, "{}", value=value)])
        store.seal()
    assert [s.columns for s in store.catalog().segments] == [{"value:int"}, {"value"}, {"value:int"}]
    store.merge(all=True)
    (segment,) = store.catalog().segments
    assert segment.columns == {"value"}
    assert [row.value for row in everything(store)] == [3.0, 0.5, 4.0]


def test_a_large_merge_has_several_row_groups_in_order(store, monkeypatch):
    monkeypatch.setattr("bizcode.segments.write.GROUP", 1000)
    for part in range(4):
        drafts = [
            Draft(EVENT, "E", TIME + (n * 37) % 1500, f'{{"n":{part * 1500 + n}}}') for n in range(1500)
        ]
        store.log.append(drafts)
        store.seal()
    store.merge()
    (segment,) = store.catalog().segments
    file = pq.ParquetFile(store.directory / segment.file)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [1000] * 6
    assert [d["n"] for d in data_of(store)] == list(range(6000))
    assert store.doctor().problems == []


def test_files_that_somebody_reads_stay_until_nobody_does(store, write):
    for _ in range(4):
        write({"a": 1})
        store.seal()
    old = files_of(store)
    with store.reading():
        catalog = store.catalog()
        store.merge()
        assert set(old) < set(files_of(store))
        assert len(store.at([1, 2, 3, 4], catalog=catalog)) == 4
    assert set(old) < set(files_of(store))
    store.merge()
    assert files_of(store) == [s.file for s in store.catalog().segments]


def test_readers_who_come_later_dont_keep_files_that_they_cant_know(store, write):
    first = store.reading()
    first.__enter__()
    for _ in range(4):
        write({})
        store.seal()
    old = set(files_of(store))
    store.merge()
    with store.reading():
        assert old < set(files_of(store))
        first.__exit__(None, None, None)
        store.merge()
        assert not old & set(files_of(store))


def test_a_reader_in_another_process_keeps_files(store, write, python):
    for _ in range(4):
        write({"a": 1})
        store.seal()
    script = """
import sys
from pathlib import Path
from bizcode.log.sqlite import open_log
from bizcode.segments import SegmentStore
store = SegmentStore(Path(sys.argv[1]), open_log(sys.argv[1]))
with store.reading():
    catalog = store.catalog()
    print("reading", flush=True)
    sys.stdin.readline()
    print(len(store.at([1, 2, 3, 4], catalog=catalog)), flush=True)
    sys.stdin.readline()
"""
    reader = python(script, store.directory)
    assert reader.stdout.readline() == "reading\n"
    store.merge()
    reader.stdin.write("go\n")
    reader.stdin.flush()
    assert reader.stdout.readline() == "4\n"
    assert len(files_of(store)) == 5
    reader.kill()
    reader.communicate()
    store.merge()
    assert len(files_of(store)) == 1


def test_a_failed_merge_changes_nothing(store, write, monkeypatch):
    for _ in range(4):
        write({"a": 1})
        store.seal()
    old = files_of(store)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", fail)
        with pytest.raises(StorageError, match=r"merging in .* is full"):
            store.merge()
    assert files_of(store) == old
    assert store.doctor().problems == []


def test_a_damaged_file_is_named_and_the_other_names_are_merged(store, write):
    for _ in range(4):
        write({"a": 1}, name="A")
        write({"b": 1}, name="B")
        store.seal()
    broken = store.catalog().of(EVENT, "A")[1]
    path = store.directory / broken.file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError, match=broken.file):
        store.merge()
    assert [(s.name, s.rows) for s in store.catalog().segments] == [("A", 1)] * 4 + [("B", 4)]


def test_compacting_seals_everything_and_leaves_one_file_a_name(store, write):
    for n in range(3):
        write({"n": n}, name="A")
        write({"n": n}, name="B")
        store.seal()
    write({"n": 3}, name="A")
    done = store.compact()
    assert (done.sealed, done.merged, done.segments) == (1, 7, 2)
    assert done.bytes == store.log.size() + sum(s.bytes for s in store.catalog().segments)
    assert [s.rows for s in store.catalog().segments] == [4, 3]


def test_merging_takes_the_memory_of_a_row_group_not_of_the_files(store, monkeypatch):
    monkeypatch.setattr("bizcode.segments.write.GROUP", 500)
    taken = []
    take = merge._Input.take

    def watching(self, count):
        table = take(self, count)
        taken.append(table.num_rows)
        return table

    monkeypatch.setattr(merge._Input, "take", watching)
    for _ in range(4):
        store.log.append([Draft(EVENT, "E", TIME + n, "{}") for n in range(2000)])
        store.seal()
    store.merge()
    assert max(taken) <= 500
    assert sum(taken) == 8000
