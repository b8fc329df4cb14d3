"""What can't be a store, and disks that refuse: one clear sentence, and nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bizcode.errors import StorageError
from bizcode.log.schema import FORMAT
from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft


def event(data: str = "{}") -> Draft:
    return Draft("event", "Signup", 0, data)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A directory with a store of three records, closed."""
    log = open_log(tmp_path / "acme")
    log.append([event(f"[{n}]") for n in range(3)])
    log.close()
    return tmp_path / "acme"


def in_child(work: Callable[[], object], user: int | None = None) -> None:
    """Run it in a child process, as another user if one is given; fails if it raised."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                os.setgid(user)
                os.setuid(user)
            work()
        except BaseException as error:  # noqa: BLE001
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as told:
        assert told.read() == ""


@contextmanager
def refused(*words: str) -> Iterator[None]:
    with pytest.raises(StorageError) as raised:
        yield
    for word in words:
        assert word in str(raised.value)


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("hello")
    with refused("acme is a file", "needs a directory"):
        open_log(tmp_path / "acme")
    with refused("acme"):
        open_log(tmp_path / "acme" / "below")
    assert (tmp_path / "acme").read_text() == "hello"


def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with refused("not empty", "holds no store"):
        open_log(tmp_path)
    assert os.listdir(tmp_path) == ["letter.txt"]


def test_an_empty_or_hidden_content_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    open_log(tmp_path).close()
    assert (tmp_path / "log.db").exists()


@pytest.mark.parametrize("content", [b"hello, this is no database\n" * 200, b"x", b"SQLite format 3\0" * 300])
def test_a_log_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.db").write_bytes(content)
    with refused("log.db"):
        open_log(tmp_path)
    assert (tmp_path / "log.db").read_bytes() == content


@pytest.mark.parametrize(
    "statement", ["create table t (a)", "pragma application_id = 77", "pragma user_version = 9"]
)
def test_another_applications_database(tmp_path: Path, statement: str) -> None:
    with sqlite3.connect(tmp_path / "log.db") as other:
        other.execute(statement)
    other.close()
    before = (tmp_path / "log.db").read_bytes()
    with refused("another application", "choose another directory"):
        open_log(tmp_path)
    assert (tmp_path / "log.db").read_bytes() == before


def test_a_log_db_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    with refused("log.db is no file"):
        open_log(tmp_path)


def test_an_empty_file_left_by_a_crash_is_laid_out(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    log = open_log(tmp_path)
    assert log.append([event()])[0].position == 1
    log.close()


def test_a_newer_format(store: Path) -> None:
    with sqlite3.connect(store / "log.db") as other:
        other.execute(f"pragma user_version = {FORMAT + 1}")
    other.close()
    with refused("newer bizcode", f"format {FORMAT + 1}", "upgrade"):
        open_log(store)


def test_a_corrupt_database_is_named(store: Path) -> None:
    file = store / "log.db"
    content = bytearray(file.read_bytes())
    content[4096 * 1 : 4096 * 2] = os.urandom(4096)
    file.write_bytes(content)
    with refused("log.db", "damaged", "backup"):
        log = open_log(store)
        try:
            log.read(0)
            log.append([event()])
        finally:
            log.close()


def test_check_tells_of_a_corrupt_index(store: Path) -> None:
    log = open_log(store)
    log.append([Draft("entity", "Order.paid", 0, "{}", entity=f"Order/{n}") for n in range(2_000)])
    assert log.check() == []
    log.close()
    file = store / "log.db"
    content = file.read_bytes()
    at = content.index(b"Order/1777", content.index(b"Order/1776"))
    places = [n for n in range(len(content)) if content.startswith(b"Order/1777", n)]
    assert at in places
    assert len(places) == 2, "the record and its index entry"
    for place in places[1:]:
        content = content[:place] + b"Order/9777" + content[place + 10 :]
    file.write_bytes(content)
    log = open_log(store)
    problems = log.check()
    log.close()
    assert problems
    assert "records" in problems[0]


def test_an_unknown_durability(tmp_path: Path) -> None:
    with refused("commit, buffered, disk", "'fast'"):
        open_log(tmp_path, "fast")


# full


def test_a_full_disk_stores_nothing_of_the_write(store: Path) -> None:
    log = open_log(store)
    log.append([event()])
    session = log._session
    assert session is not None
    session.execute("pragma max_page_count = 20").fetchall()
    big = [event('"' + "x" * 1000 + '"') for _ in range(200)]
    with refused("is full", "nothing was stored"):
        log.append(big)
    with refused("is full"), log.transaction() as tx:
        tx.put("s", "k", b"1")
        tx.append(big)
    assert (log.head(), log.get("s", "k")) == (4, None)
    assert log.append([event()])[0].position == 5
    session.execute("pragma max_page_count = 100000").fetchall()
    assert len(log.append(big)) == 200
    assert log.check() == []
    log.close()


def test_a_caught_full_disk_cant_be_committed_over(store: Path) -> None:
    log = open_log(store)
    with refused("is full"), log.transaction() as tx:
        tx.put("s", "k", b"1")
        assert log._session is not None
        log._session.execute("pragma max_page_count = 12").fetchall()
        with refused("is full"):
            tx.append([event('"' + "x" * 1000 + '"') for _ in range(200)])
    assert (log.head(), log.get("s", "k")) == (3, None)
    log.close()


def test_one_too_big_for_the_disk_doesnt_fail_those_it_shares_a_commit_with(store: Path) -> None:
    log = open_log(store)
    log.append([event()])
    assert log._session is not None
    log._session.execute("pragma max_page_count = 20").fetchall()
    big = [event('"' + "x" * 1000 + '"') for _ in range(200)]
    from bizcode.log.writing import _Request

    group = [_Request([event("[1]")]), _Request(big), _Request([event("[2]")])]
    log._queue.extend(group)
    with log._lock:
        log._append_queue()
    assert [request.answers and request.answers[0].position for request in group] == [5, None, 6]
    assert isinstance(group[1].error, StorageError)
    assert not log._queue
    log.close()


def test_a_failing_write_of_the_file_is_told_and_survived(store: Path) -> None:
    """The operating system refuses to let the file grow, as a full disk or a quota does."""

    def child() -> None:
        log = open_log(store)
        size = (store / "log.db-wal").stat().st_size + 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        with refused("log.db"):
            for _ in range(1000):
                log.append([event('"' + "x" * 1000 + '"')])
        head = log.head()
        assert head > 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert log.append([event()])[0].position == head + 1
        assert log.check() == []
        log.close()

    in_child(child)
    log = open_log(store)
    assert [row.position for row in log.read(0)] == list(range(1, log.head() + 1))
    log.close()


# read-only

NOBODY = 65534


def as_nobody(store: Path, work: Callable[[], object]) -> None:
    """Run it where the directory can't be written: as another user if this is root."""
    for directory, _, files in os.walk(store):
        for file in files:
            os.chmod(Path(directory) / file, 0o444)
        os.chmod(directory, 0o555)
    parent = store
    while parent != parent.parent:
        if os.stat(parent).st_uid == os.geteuid():
            os.chmod(parent, os.stat(parent).st_mode | 0o555)
        parent = parent.parent
    try:
        in_child(work, NOBODY if os.geteuid() == 0 else None)
    finally:
        for directory, _, files in os.walk(store):
            os.chmod(directory, 0o755)
            for file in files:
                os.chmod(Path(directory) / file, 0o644)


def check_reading(log: SqliteLog, count: int) -> None:
    assert [row.data for row in log.read(0)] == [f"[{n}]" for n in range(count)]
    assert log.head() == count
    with log.snapshot() as then:
        assert then.head() == count
    assert dict(log.cached("settings")) == {}
    changes = log.changes()
    assert log.wait(changes, 0.01) is False
    log.flush()
    for write in (
        lambda: log.append([event()]),
        lambda: log.transaction().__enter__(),
        lambda: log.append_later(event()).result(),
        log.vacuum,
    ):
        with refused("read-only"):
            write()


def test_a_read_only_directory_can_be_read(store: Path) -> None:
    def child() -> None:
        log = open_log(store)
        check_reading(log, 3)
        log.close()

    as_nobody(store, child)


def test_a_read_only_directory_can_be_read_while_its_owner_writes(store: Path) -> None:
    writer = open_log(store)
    writer.append([event("[3]")])

    def child() -> None:
        log = open_log(store)
        check_reading(log, 4)

    as_nobody(store, child)
    writer.append([event("[4]")])
    writer.close()


@pytest.mark.parametrize("kept", [("-wal", "-shm"), ("-wal",)])
def test_what_a_crash_left_in_the_journal_is_never_overlooked(
    store: Path, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    writer = open_log(store)
    writer.append([event("[3]")])
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", *kept):
        shutil.copy(store / f"log.db{suffix}", copy / f"log.db{suffix}")
    writer.close()

    def child() -> None:
        if "-shm" in kept:
            check_reading(open_log(copy), 4)
        else:
            with refused("left by a crash", "right to write"):
                open_log(copy)

    as_nobody(copy, child)
    log = open_log(copy)
    assert log.head() == 4
    log.close()


def test_a_read_only_reader_sees_what_is_written_later(store: Path) -> None:
    """Each look finds out anew whether somebody writes."""
    read, write = os.pipe()
    answer, tell = os.pipe()

    def child() -> None:
        log = open_log(store)
        before = log.changes()
        assert log.head() == 3
        os.write(tell, b"1")
        os.read(read, 1)
        assert log.wait(before, 5)
        assert log.head() == 4
        os.write(tell, b"2")
        os.read(read, 1)
        assert log.head() == 4

    def owner() -> None:
        os.read(answer, 1)
        log = open_log(store)
        log.append([event("[3]")])
        for name in os.listdir(store):
            os.chmod(store / name, 0o644 if name != "locks" else 0o755)
        os.write(write, b"1")
        os.read(answer, 1)
        log.close()
        os.write(write, b"2")

    parent = os.fork()
    if parent == 0:
        try:
            owner()
        finally:
            os._exit(0)
    as_nobody_quietly(store, child)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == 0


def as_nobody_quietly(store: Path, work: Callable[[], object]) -> None:
    """As another user, with the owner's rights left alone; needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    parent = store
    while parent != parent.parent:
        os.chmod(parent, os.stat(parent).st_mode | 0o555)
        parent = parent.parent
    in_child(work, NOBODY)


def test_a_read_only_directory_without_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    def child() -> None:
        with refused("read-only and holds no store"):
            open_log(tmp_path / "empty")
        with refused("can't be made"):
            open_log(tmp_path / "empty" / "below")

    as_nobody(tmp_path / "empty", child)


def test_an_unreadable_directory(tmp_path: Path, store: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user")

    def child() -> None:
        with refused("can't be"):
            open_log(store)

    os.chmod(store, 0o700)
    for parent in store.parents:
        os.chmod(parent, os.stat(parent).st_mode | 0o555)
    in_child(child, NOBODY)
    os.chmod(store, 0o755)
    os.chmod(store / "log.db", 0o600)
    in_child(child, NOBODY)
