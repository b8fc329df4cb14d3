"""Erased means gone: not one byte of it is left in any file of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft

SECRET = "my-secret-name"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "acme")
    yield log
    log.close()


def secret(n: int, **fields: str) -> Draft:
    data = '{"text":"' + f"{SECRET} " * (1 + n % 7 * 100) + '"}'
    return Draft("event", "Signup", n, data, SECRET, **fields)


def traces(directory: Path) -> list[str]:
    """Files in which the secret can be found."""
    return [
        file.name for file in directory.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()
    ]


def test_erased_records_leave_no_bytes(log: SqliteLog) -> None:
    other = Draft("event", "Signup", 0, '{"text":"public"}')
    for n in range(300):
        log.append([other, secret(n, id=f"{SECRET}-{n}"), other])
    log.append([secret(n, entity=f"Person/{SECRET}") for n in range(50)])
    assert traces(log.directory)
    with log.transaction() as tx:
        found = [row.position for row in tx.read(0) if row.user == SECRET]
        assert tx.erase(found) == 350
    assert traces(log.directory) == []
    assert len(log.read(0)) == 600
    assert log.check() == []


def test_trimmed_records_leave_no_bytes_once_something_is_erased(log: SqliteLog) -> None:
    log.append([secret(n) for n in range(200)])
    with log.transaction() as tx:
        tx.trim(200)
    with log.transaction() as tx:
        tx.erase(range(1, 201))
    assert traces(log.directory) == []


def test_deleted_and_overwritten_state_leaves_no_bytes_once_something_is_erased(log: SqliteLog) -> None:
    with log.transaction() as tx:
        for n in range(100):
            tx.put("data", f"{n}", SECRET.encode() * (1 + n * 10))
    with log.transaction() as tx:
        for n in range(50):
            tx.put("data", f"{n}", b"public")
        tx.clear("data", "5")
        for n in range(60, 100):
            tx.delete("data", f"{n}")
        tx.erase([])
    assert traces(log.directory) == []


def test_bytes_that_a_reader_keeps_go_with_a_transaction_after_it(log: SqliteLog) -> None:
    log.append([secret(0)])
    with log.snapshot() as then:
        with log.transaction() as tx:
            tx.erase([1])
        assert len(then.read(0)) == 1
    assert traces(log.directory)
    with log.transaction():
        pass
    assert traces(log.directory) == []


def test_bytes_that_a_reader_keeps_go_with_the_end_of_the_log(log: SqliteLog) -> None:
    log.append([secret(0)])
    with log.snapshot(), log.transaction() as tx:
        tx.erase([1])
    log.close()
    assert traces(log.directory) == []


def test_vacuum_shrinks_the_file(log: SqliteLog) -> None:
    log.append([secret(n) for n in range(5_000)])
    with log.transaction() as tx:
        tx.trim(5_000)
    before = log.size()
    log.vacuum()
    assert log.size() < before / 10
