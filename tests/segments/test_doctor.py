"""Every broken invariant is found and named; what a crash leaves behind is mended."""

from __future__ import annotations

import shutil
from dataclasses import replace

import orjson
import pytest

from bizcode.record import EVENT
from bizcode.segments.catalog import SEGMENTS

from .conftest import data_of


@pytest.fixture
def healthy(store, write):
    for n in range(3):
        write({"n": n}, name="A", at=n)
        write({"n": n}, name="B", at=n)
        store.seal()
    write({"n": 9})
    return store


def kinds(report):
    return [problem.kind for problem in report.problems]


def test_a_healthy_store(healthy):
    report = healthy.doctor()
    assert report.ok
    assert (report.records, report.segments) == (7, 6)
    assert str(report) == "7 records in 6 segments and the log\nevery invariant holds"


def test_what_a_crash_leaves_behind_is_found_and_mended(healthy):
    segment = healthy.catalog().of(EVENT, "A")[0]
    path = healthy.directory / segment.file
    shutil.copy(path, path.with_name("999-abc.parquet"))
    path.with_name(".1000-abc.parquet.part").write_bytes(b"half")
    report = healthy.doctor()
    assert kinds(report) == ["orphan", "orphan"]
    assert not report.ok
    assert "a crash left it behind" in str(report)
    report = healthy.doctor(mend=True)
    assert report.ok
    assert "mended" in str(report)
    assert healthy.doctor().problems == []
    assert path.exists()


def test_a_strangers_file_is_named_but_not_deleted(healthy):
    stranger = healthy.directory / "segments" / "notes.txt"
    stranger.write_text("mine")
    report = healthy.doctor(mend=True)
    assert kinds(report) == ["orphan"]
    assert not report.ok
    assert stranger.exists()


@pytest.mark.parametrize("at", [0, 4, -1, -9, None])
def test_any_flipped_byte_is_found_and_the_file_named(healthy, at):
    segment = healthy.catalog().of(EVENT, "A")[1]
    path = healthy.directory / segment.file
    held = bytearray(path.read_bytes())
    held[len(held) // 2 if at is None else at] ^= 1
    path.write_bytes(held)
    report = healthy.doctor(mend=True)
    assert kinds(report) == ["corrupt"]
    assert segment.file in report.problems[0].message
    assert "1 records of event 'A'" in report.problems[0].message


def test_a_missing_file_is_found(healthy):
    segment = healthy.catalog().of(EVENT, "B")[0]
    (healthy.directory / segment.file).unlink()
    report = healthy.doctor()
    assert kinds(report) == ["missing"]
    assert report.problems[0].where == segment.file


def test_records_that_are_in_no_file_any_more_are_counted(healthy):
    segment = healthy.catalog().of(EVENT, "B")[0]
    with healthy.log.transaction() as tx:
        tx.delete(SEGMENTS, segment.id)
        tx.put("sealed", "state", orjson.dumps([6, 99, 0]))
    (healthy.directory / segment.file).unlink()
    report = healthy.doctor()
    assert kinds(report) == ["count"]
    assert report.problems[0].message == "positions 1 to 2 hold 1 records, 2 were sealed"


def test_records_that_are_in_two_files_are_found(healthy):
    segment = healthy.catalog().of(EVENT, "B")[0]
    copy = healthy.directory / "segments/event/B/copy.parquet"
    shutil.copy(healthy.directory / segment.file, copy)
    twin = replace(segment, id="copy", file=copy.relative_to(healthy.directory).as_posix())
    with healthy.log.transaction() as tx:
        tx.put(SEGMENTS, "copy", twin.to_json(healthy.schema(EVENT, "B")))
        tx.put("sealed", "state", orjson.dumps([6, 99, 0]))
    assert kinds(healthy.doctor()) == ["duplicate", "count"]


def test_a_file_that_is_another_than_the_catalog_says_is_found(healthy):
    first, second, _ = healthy.catalog().of(EVENT, "B")
    shutil.copy(healthy.directory / first.file, healthy.directory / second.file)
    report = healthy.doctor()
    assert kinds(report) == ["corrupt"]
    assert second.file in report.problems[0].message


def test_a_log_older_than_its_segments_is_found(healthy):
    with healthy.log.transaction() as tx:
        tx.put("sealed", "state", orjson.dumps([600, 99, 0]))
    report = healthy.doctor()
    assert kinds(report) == ["log"]
    assert "older than the segments" in report.problems[0].message


def test_the_rest_stays_readable_beside_a_corrupt_file(healthy):
    segment = healthy.catalog().of(EVENT, "A")[1]
    (healthy.directory / segment.file).write_bytes(b"PAR1 nonsense PAR1")
    assert kinds(healthy.doctor()) == ["corrupt"]
    assert len([row for rows in healthy.rows(0, names=["B"]) for row in rows]) == 3
    assert len([row for rows in healthy.rows(0, until=2) for row in rows]) == 2
    with pytest.raises(Exception, match=segment.file):
        data_of(healthy)
