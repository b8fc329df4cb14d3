"""A forked child goes on with the log as if it had opened it itself."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from bizcode.errors import StorageError
from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "acme")
    yield log
    log.close()


def event(id: str | None = None) -> Draft:
    return Draft("event", "Signup", 0, "{}", id=id)


def forked(work: Callable[[], object]) -> int:
    """Run it in a child; the child's exit code, 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_parent_and_child_both_write_on(log: SqliteLog) -> None:
    log.append([event()])

    def child() -> None:
        assert log.head() == 1
        for _ in range(20):
            log.append([event()])
        assert log.changes() != 0

    assert forked(child) == 0
    log.append([event()])
    assert [row.position for row in log.read(0)] == list(range(1, 23))
    assert log.check() == []


def test_children_write_at_the_same_time_as_their_parent(log: SqliteLog) -> None:
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(100):
                    log.append([event()])
            finally:
                os._exit(0)
        children.append(child)
    for _ in range(100):
        log.append([event()])
    for child in children:
        os.waitpid(child, 0)
    assert [row.position for row in log.read(0)] == list(range(1, 401))


def test_a_fork_amid_busy_threads_harms_nobody(log: SqliteLog) -> None:
    stop = threading.Event()
    counts = [0, 0]

    def write() -> None:
        while not stop.is_set():
            log.append([event()])
            counts[0] += 1

    def read() -> None:
        while not stop.is_set():
            log.read(0, None, 100)
            with log.snapshot() as then:
                then.head()

    def later() -> None:
        while not stop.is_set():
            log.append_later(event())
            counts[1] += 1
            stop.wait(0.001)

    threads = [threading.Thread(target=work) for work in (write, read, later)]
    for thread in threads:
        thread.start()
    try:
        codes = [forked(lambda: [log.append([event()]) for _ in range(5)]) for _ in range(15)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    log.flush()
    assert codes == [0] * 15
    assert log.head() == sum(counts) + 15 * 5
    assert len(log.read(0)) == log.head()


def test_multiprocessing_by_fork_works(log: SqliteLog) -> None:
    global _shared
    _shared = log
    log.append([event()])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        positions = pool.map(_write_one, [f"id-{n}" for n in range(40)])
    assert sorted(positions) == list(range(2, 42))


def test_buffered_writes_before_a_fork_are_stored_once(log: SqliteLog) -> None:
    pending = [log.append_later(event(f"parent-{n}")) for n in range(50)]

    def child() -> None:
        log.append_later(event("child"))
        log.flush()

    assert forked(child) == 0
    log.flush()
    assert [p.result().position for p in pending] == list(range(1, 51))
    assert log.position_of("child") == 51
    assert log.head() == 51


def test_buffered_writes_of_a_multiprocessing_child_are_committed_at_its_end(log: SqliteLog) -> None:
    running = multiprocessing.get_context("fork").Process(target=log.append_later, args=(event("child"),))
    running.start()
    running.join()
    assert log.position_of("child") == 1


def test_a_child_of_an_open_snapshot_opens_its_own(log: SqliteLog) -> None:
    log.append([event()])

    def child() -> None:
        log.append([event()])
        assert log.head() == 2

    with log.snapshot() as then:
        assert forked(child) == 0
        assert (then.head(), log.head()) == (1, 2)
    assert log.append([event()])[0].position == 3


def test_a_child_forked_inside_a_transaction_is_refused(log: SqliteLog) -> None:
    def child() -> None:
        with pytest.raises(StorageError, match="forked inside a transaction"):
            log.append([event()])
        with pytest.raises(StorageError, match="forked inside a transaction"):
            log.head()
        log.close()

    with log.transaction() as tx:
        tx.append([event("a")])
        assert forked(child) == 0
        tx.append([event("b")])
    assert log.head() == 2
    assert forked(lambda: log.append([event()])) == 0


def test_a_child_forked_amid_another_threads_long_read_is_refused(log: SqliteLog) -> None:
    reading = threading.Event()

    def read() -> None:
        endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select max(i) from n"
        with log._readers.take() as lease:
            lease.connection.set_progress_handler(lambda: reading.set() or stop.is_set(), 1000)
            with suppress(apsw.InterruptError):
                lease.execute(endless)

    stop = threading.Event()
    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()

    def child() -> None:
        with pytest.raises(StorageError, match="amid a long read"):
            log.append([event()])
        log.close()

    try:
        assert forked(child) == 0
    finally:
        stop.set()
        thread.join()
    assert log.append([event()])[0].position == 1


def test_a_childs_end_frees_nothing_of_its_parent(log: SqliteLog) -> None:
    """Locks of the parent survive the child's closing of the same files."""
    with log.transaction() as tx:
        tx.append([event("a")])
        assert forked(log.close) == 0
        other = open_log(log.directory)
        blocked = threading.Thread(target=lambda: other.append([event("b")]))
        blocked.start()
        blocked.join(0.2)
        assert blocked.is_alive(), "somebody else got into the transaction"
    blocked.join()
    other.close()
    assert [row.id for row in log.read(0)] == ["a", "b"]


def _write_one(id: str) -> int:
    return _shared.append([event(id)])[0].position


_shared: SqliteLog
