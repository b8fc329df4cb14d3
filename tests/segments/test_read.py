"""Sealed history read back, in order and by position."""

from __future__ import annotations

import os
import random

import pytest

from bizcode.errors import StorageError
from bizcode.record import EVENT, MEASURE, Draft

from .conftest import TIME, data_of, everything


@pytest.fixture
def mixed(store):
    """Records of several names whose times have little to do with their order, in several files."""
    dice = random.Random(1)
    for part in range(3):
        for n in range(700):
            kind = dice.choice((EVENT, MEASURE))
            value = n if kind == MEASURE else None
            late = dice.choice((0, 0, dice.randrange(-10_000, 10_000)))
            store.log.append(
                [Draft(kind, dice.choice("ABC"), TIME + part * 700 + n + late, f'{{"n":{n}}}', value=value)]
            )
        store.seal()
    return store


@pytest.mark.parametrize("window", [1, 100, 10_000])
def test_rows_come_in_order_of_position_whatever_their_time(mixed, monkeypatch, window):
    monkeypatch.setattr("bizcode.segments.scan.WINDOW", window)
    monkeypatch.setattr("bizcode.segments.scan.WINDOW_OF_PIECE", 1)
    assert [row.position for row in everything(mixed)] == list(range(1, 2101))
    assert [row.position for row in everything(mixed, until=900)] == list(range(1, 901))
    assert [row.position for rows in mixed.rows(500, 1500) for row in rows] == list(range(501, 1501))


def test_rows_come_in_lists_of_at_most_the_batch(mixed):
    assert max(len(rows) for rows in mixed.rows(0, batch=100)) == 100
    assert sum(len(rows) for rows in mixed.rows(0, batch=100)) == 2100
    assert all(rows for rows in mixed.rows(0, batch=7))


def test_rows_of_some_kinds_and_names(mixed):
    everyone = everything(mixed)
    assert everything(mixed, kinds=[MEASURE]) == [row for row in everyone if row.kind == MEASURE]
    assert everything(mixed, names=["A", "C"]) == [row for row in everyone if row.name in "AC"]
    assert everything(mixed, kinds=[EVENT], names=["B"]) == [
        row for row in everyone if (row.kind, row.name) == (EVENT, "B")
    ]
    assert everything(mixed, names=[]) == []
    assert everything(mixed, kinds=["entity"]) == []


def test_rows_when_little_may_be_kept(mixed, monkeypatch):
    monkeypatch.setattr("bizcode.segments.scan.KEPT_BYTES", 0)
    monkeypatch.setattr("bizcode.segments.scan.WINDOW", 50)
    monkeypatch.setattr("bizcode.segments.scan.WINDOW_OF_PIECE", 0)
    assert [row.position for row in everything(mixed)] == list(range(1, 2101))


def test_some_positions(mixed):
    everyone = {row.position: row for row in everything(mixed)}
    wanted = [1999, 3, 3, 700, 5000, 0]
    assert mixed.at(wanted) == [everyone[3], everyone[700], everyone[1999]]
    assert mixed.at([]) == []
    time = everyone[3].time
    assert mixed.at([3], since=time, until=time + 1) == [everyone[3]]
    assert mixed.at([3], since=time + 100_000) == []


def test_a_history_that_grows_while_it_is_read_is_read_as_it_was(store, write):
    write({"n": 1}, {"n": 2})
    store.seal()
    reading = store.rows(0, batch=1)
    assert next(reading)[0].position == 1
    write({"n": 3})
    store.seal()
    store.merge(all=True)
    assert [row.position for rows in reading for row in rows] == [2]
    assert len(data_of(store)) == 3


def test_a_reader_that_rests_holds_no_file_and_misses_what_is_erased_meanwhile(mixed, monkeypatch):
    monkeypatch.setattr("bizcode.segments.scan.WINDOW", 10)
    monkeypatch.setattr("bizcode.segments.scan.WINDOW_OF_PIECE", 0)
    reading = mixed.rows(0)
    found = [row.position for row in next(reading)]
    mixed.merge(all=True)
    mixed.erase([50, 60, 1000])
    assert {p.name for p in mixed.directory.rglob("*.parquet")} == {
        segment.file.rpartition("/")[2] for segment in mixed.catalog().segments
    }
    found += [row.position for rows in reading for row in rows]
    assert found == [p for p in range(1, 2101) if p not in (50, 60, 1000)]


def test_reading_in_a_forked_child_leaves_the_parents_hold_alone(store, write):
    write({"n": 1})
    store.seal()
    with store.reading():
        child = os.fork()
        if not child:
            try:
                held = store._readers._held
                os._exit(0 if not held else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert not store._readers.drained(0)
    assert store._readers.drained(0)


def test_a_missing_file_is_named_and_the_rest_is_readable(store, write):
    write({"n": 1}, name="A")
    write({"n": 2}, name="B")
    store.seal()
    broken = store.catalog().of(EVENT, "A")[0]
    (store.directory / broken.file).unlink()
    with pytest.raises(StorageError, match=rf"{broken.file} is missing: it holds 1 records of event 'A'"):
        everything(store)
    with pytest.raises(StorageError, match="is missing"):
        store.at([1])
    assert [row.position for row in everything(store, names=["B"])] == [2]
    assert [row.position for row in store.at([2])] == [2]


def test_a_flipped_byte_is_noticed_and_not_read(store):
    store.log.append([Draft(EVENT, "E", TIME + n, f'{{"n":{n * n % 977}}}') for n in range(3000)])
    store.seal()
    (segment,) = store.catalog().segments
    path = store.directory / segment.file
    held = bytearray(path.read_bytes())
    held[len(held) // 3] ^= 0x10
    path.write_bytes(held)
    with pytest.raises(StorageError, match=segment.file):
        everything(store)


def test_what_was_decoded_is_kept_for_the_next_question_within_limits(store, monkeypatch):
    monkeypatch.setattr("bizcode.segments.write.GROUP", 100)
    monkeypatch.setattr("bizcode.segments.read._CACHED_BYTES", 20_000)
    store.log.append([Draft(EVENT, "E", TIME + n, f'{{"n":{n}}}') for n in range(2000)])
    store.seal()
    for n in range(1, 2000, 50):
        assert [row.position for row in store.at([n])] == [n]
        assert store._files._bytes <= 20_000
    assert store._files._groups
    store.erase([1])
    assert not store._files._groups
