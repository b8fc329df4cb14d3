"""Callers at the same time share commits, on disk one sync serves them all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bizcode.errors import StorageError
from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "acme", "disk")
    yield log
    log.close()


def event(data: str = "{}") -> Draft:
    return Draft("event", "Signup", 0, data)


def test_those_who_queue_while_another_writes_share_one_commit(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = 8
    log.append([])
    session = log._session
    assert session is not None
    commits: list[int] = []
    commit = session.commit
    monkeypatch.setattr(session, "commit", lambda: (commits.append(1), commit()))
    with ThreadPoolExecutor(callers) as pool:
        with log.transaction() as tx:
            tx.append([event()])
            writes = [pool.submit(log.append, [event(f"[{n}]")]) for n in range(callers)]
            while len(log._queue) < callers:
                threading.Event().wait(0.001)
        positions = sorted(write.result()[0].position for write in writes)
    assert positions == list(range(2, callers + 2))
    assert len(commits) == 2, "one commit for the transaction, one for all the others"


def test_a_transaction_gets_its_turn_amid_tight_loops(log: SqliteLog) -> None:
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            log.append([event()])

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for n in range(50):
            with log.transaction() as tx:
                tx.put("s", "n", str(n).encode())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert log.get("s", "n") == b"49"


def test_closing_while_others_write_ends_them_with_an_error(log: SqliteLog) -> None:
    started = threading.Barrier(4)
    acknowledged: list[int] = []

    def loop() -> None:
        started.wait()
        try:
            while True:
                acknowledged.append(log.append([event()])[0].position)
        except StorageError:
            return

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    log.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    again = open_log(log.directory)
    assert sorted(acknowledged) == list(range(1, again.head() + 1))
    again.close()


def test_closing_wakes_those_who_wait(log: SqliteLog) -> None:
    before = log.changes()

    def wait() -> None:
        with pytest.raises(StorageError):
            log.wait(before)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not log._changes._line:
        threading.Event().wait(0.001)
    log.close()
    waiting.join(5)
    assert not waiting.is_alive()
