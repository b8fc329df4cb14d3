"""Erased is erased: from the catalog, the files and every byte on the disk."""

from __future__ import annotations

import threading

import pyarrow.parquet as pq
import pytest

from bizcode.errors import StorageError
from bizcode.record import EVENT, Draft

from .conftest import TIME, data_of, everything

MARK = "mallory-5d1c"


def traces(store) -> list[str]:
    """The files below the store that have the marker in their bytes, or in what they decode to."""
    found = []
    for path in sorted(store.directory.rglob("*")):
        if path.is_file():
            inside = path.read_bytes()
            if path.suffix == ".parquet":
                inside += (
                    str(pq.read_table(path).to_pydict()).encode()
                    + str(pq.read_metadata(path).metadata).encode()
                )
            if MARK.encode() in inside:
                found.append(path.name)
    return found


@pytest.fixture
def marked(store, write):
    """Two files of two names; records 2 and 5 are the marked user's."""
    write({"n": 1, "plan": "pro"}, user="u1")
    write({"n": 2, MARK: 1, "deep": {MARK: None}}, user=MARK)
    write({"n": 3}, name="Other")
    store.seal()
    write({"n": 4}, user="u1")
    write({"n": 5, "mail": f"{MARK}@x.org"}, user=MARK)
    store.seal()
    assert len(traces(store)) >= 2
    return store


def test_every_byte_is_gone(marked):
    def also(tx):
        tx.erase([2, 5])

    assert marked.erase([2, 5], also) == 2
    marked.log.vacuum()
    assert [d["n"] for d in data_of(marked)] == [1, 3, 4]
    assert traces(marked) == []
    assert marked.doctor().problems == []


def test_columns_that_nothing_has_any_more_are_forgotten(marked):
    assert ((MARK,), "int", TIME, TIME) in list(marked.seen(EVENT, "E"))
    marked.erase([2, 5])
    assert [(path, type) for path, type, _, _ in marked.seen(EVENT, "E")] == [
        (("n",), "int"),
        (("plan",), "text"),
    ]
    assert all(s.rest is None for s in marked.catalog().segments)


def test_a_file_that_becomes_empty_goes_and_the_others_stay_as_they_are(store, write):
    write({"n": 1}, name="A")
    write({"n": 2}, name="B")
    store.seal()
    kept = store.catalog().of(EVENT, "B")
    assert store.erase([1]) == 1
    assert store.catalog().names(EVENT) == ["B"]
    assert list(store.catalog().segments) == kept
    assert [p.name for p in store.directory.rglob("*.parquet")] == [kept[0].file.rpartition("/")[2]]


def test_erasing_what_is_not_sealed_runs_the_callers_part_only(store, write):
    write({"n": 1}, {"n": 2})
    store.seal(1)
    ran = []
    assert store.erase([2, 77], ran.append) == 0
    assert len(ran) == 1
    assert [d["n"] for d in data_of(store)] == [1]


def test_when_the_callers_part_fails_nothing_is_erased(marked):
    def also(tx):
        raise StorageError("no")

    files = sorted(p.name for p in marked.directory.rglob("*.parquet"))
    with pytest.raises(StorageError, match="no"):
        marked.erase([2, 5], also)
    assert [d["n"] for d in data_of(marked)] == [1, 2, 3, 4, 5]
    assert sorted(p.name for p in marked.directory.rglob("*.parquet")) == files


def test_erasing_waits_for_queries_that_still_read(marked):
    done = threading.Event()
    worker = threading.Thread(target=lambda: (marked.erase([2]), done.set()))
    with marked.reading():
        catalog = marked.catalog()
        worker.start()
        assert not done.wait(0.2)
        assert [row.position for row in marked.at([1, 2], catalog=catalog)] == [1, 2]
    worker.join(10)
    assert done.is_set()
    assert [d["n"] for d in data_of(marked)] == [1, 3, 4, 5]


def test_a_query_that_never_ends_is_reported_and_the_files_go_with_the_next_upkeep(marked, monkeypatch):
    monkeypatch.setattr("bizcode.segments.store.PATIENCE", 0.05)
    with marked.reading():
        with pytest.raises(StorageError, match="the records are erased, but a query that has run"):
            marked.erase([2, 5], lambda tx: tx.erase([2, 5]))
        marked.log.vacuum()
        assert [d["n"] for d in data_of(marked)] == [1, 3, 4]
        assert traces(marked)
    assert marked.doctor(mend=True).ok
    assert traces(marked) == []


def test_many_records_in_many_row_groups(store, monkeypatch):
    monkeypatch.setattr("bizcode.segments.write.GROUP", 100)
    store.log.append([Draft(EVENT, "E", TIME + (n * 7) % 1000, f'{{"n":{n}}}') for n in range(1000)])
    store.seal()
    gone = {p for p in range(1, 1001) if p % 3 == 0 or 400 < p < 600}
    assert store.erase(gone) == len(gone)
    assert {row.position for row in everything(store)} == set(range(1, 1001)) - gone
    assert store.doctor().problems == []
