"""The log on SQLite: one file in the store's directory, shared by threads and processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from ..errors import StorageError
from ..record import Draft, Stored
from . import schema
from .buffer import Buffer, Later
from .connections import Readers, connect, shut
from .faults import fault
from .interface import Reader
from .lives import enroll
from .locks import FileLocks
from .reads import Reads, paged
from .writing import Writing

__all__ = ["SqliteLog", "open_log"]

FILE = "log.db"
OURS = {"locks", "segments", "tenants"}
SYNCHRONOUS = {"commit": "normal", "buffered": "normal", "disk": "full"}


def open_log(directory: str | Path, durability: str = "commit") -> SqliteLog:
    """Open the log in a directory; both are created at first use.

    Args:
        durability: "commit" survives a killed process, "disk" also a power cut; "buffered" is
            "commit" for what doesn't come through `append_later`.

    Raises:
        StorageError: the directory can't be used; the message says why.
    """
    return SqliteLog(Path(directory), durability)


class SqliteLog(Writing):
    """Implements `Log`. Safe for threads, processes and forks.

    A fork inside a transaction or beside a long read leaves the child without this log (StorageError);
    any other child just goes on. Nothing else in the process may open the file: POSIX locks are lost
    when a process closes any handle of a file.
    """

    def __init__(self, directory: Path, durability: str = "commit") -> None:
        if durability not in SYNCHRONOUS:
            raise StorageError(f"durability is one of {', '.join(SYNCHRONOUS)}, not {durability!r}")
        path = directory / FILE
        self.writable = _prepare(directory, path)
        self.directory = directory
        self.durability = durability
        self.locks = FileLocks(directory / "locks")
        locks = directory / "locks" if self.writable else None
        super().__init__(path, locks, SYNCHRONOUS[durability], self.changes)
        self._readers = Readers(path, self.writable, self._spaces)
        self._watch: Callable[[str], Any] | None = None
        self._watch_connection: apsw.Connection | None = None
        self._watch_lock = threading.Lock()
        self._era = 0
        self._buffer = Buffer(self.append)
        if self.writable:
            with self._lock:
                self.store_id = self._opened()[0].store_id
        else:
            with self._readers.take() as reads:
                if not schema.inspect(reads.execute, path):
                    raise StorageError(f"{path} is empty and read-only: there is no store to open")
                self.store_id = schema.store_id(reads.execute)
        self._readers.store_id = self.store_id
        enroll(self)

    # reads

    def head(self) -> int:
        with self._readers.take() as reads:
            return reads.head()

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        with self._readers.take() as reads:
            return reads.read(after, until, limit)

    def at(self, positions: Iterable[int]) -> list[Stored]:
        with self._readers.take() as reads:
            return reads.at(positions)

    def position_of(self, id: str) -> int | None:
        with self._readers.take() as reads:
            return reads.position_of(id)

    def entity_version(self, entity: str) -> int:
        with self._readers.take() as reads:
            return reads.entity_version(entity)

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        return paged(self._events_page, entity, after_version, until_version)

    def _events_page(self, entity: str, after_version: int, until_version: int | None) -> list[Stored]:
        with self._readers.take() as reads:
            return reads.events_page(entity, after_version, until_version)

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        with self._readers.take() as reads:
            return reads.entities(prefix, after, limit)

    def get(self, space: str, key: str) -> bytes | None:
        with self._readers.take() as reads:
            return reads.get(space, key)

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        with self._readers.take() as reads:
            return reads.scan(space, prefix, after, limit)

    def cached(self, space: str) -> Mapping[str, bytes]:
        with self._readers.take() as reads:
            return reads.cached(space)

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        with self._readers.take() as lease:
            lease.thread = threading.get_ident()
            reads = Reads(lease.execute, self._spaces, self.store_id)
            try:
                lease.execute("begin")
                reads.head()  # the first read fixes the moment
                yield reads
            finally:
                reads.end()
                lease.thread = 0
                lease.finish()

    # writes

    def _before_transaction(self) -> None:
        self._buffer.drain()

    def append_later(self, draft: Draft) -> Later:
        self._refuse_if_closed()
        return self._buffer.add(draft)

    def flush(self) -> None:
        """Wait until every buffered write is committed. Raises the error of one that failed, if nobody
        has had it from `result()`."""
        self._refuse_if_closed()
        self._buffer.drain()
        self._buffer.check()

    # news

    def changes(self) -> int:
        with self._watch_lock:
            self._refuse_if_closed()
            if not self.writable:
                return self._stamp()
            try:
                watch = self._watch or self._open_watch()
                return self._era + watch("pragma data_version").fetchall()[0][0]
            except apsw.Error as error:
                raise fault(error, self.path) from error

    def _open_watch(self) -> Callable[[str], Any]:
        # A connection of its own, since one isn't told of its own commits.
        connection = self._watch_connection = connect(self.path, "rw")
        watch = self._watch = connection.cursor().execute
        self._era += 1 << 32
        return watch

    def _shut_watch(self) -> None:
        if self._watch_connection is not None:
            shut(self._watch_connection)
        self._watch = self._watch_connection = None

    def _stamp(self) -> int:
        """Of a store that can't be written from here: its files' times and sizes, as one number."""
        files = [file.stat() for file in sorted(self.directory.glob(FILE + "*"))]
        return hash(tuple((file.st_mtime_ns, file.st_size) for file in files))

    def wait(self, changes: int, timeout: float | None = None) -> bool:
        self._refuse_if_closed()
        return self._changes.wait(changes, timeout)

    def wake(self) -> None:
        self._changes.wake()

    # the file

    def size(self) -> int:
        self._refuse_if_closed()
        return sum(file.stat().st_size for file in self.directory.glob(FILE + "*"))

    def check(self) -> list[str]:
        """What is wrong with the file, empty if nothing: SQLite's integrity check."""
        with self._readers.take() as reads:
            found = reads.execute("pragma integrity_check").fetchall()
        return [row[0] for row in found if row[0] != "ok"]

    def close(self) -> None:
        """Commit what is buffered and close. Raises the error of a buffered write that failed,
        if nobody has had it; the log is closed all the same."""
        if self._refusal is not None:
            return
        self._refuse_nesting()
        self._buffer.stop()
        with self._turn, self._lock:
            self._refuse(f"{self.path} has been closed")
            with self._watch_lock:
                self._shut_watch()
            if self._session is not None:
                shut(self._session.connection, checkpoint=True)
                self._session = None
            if self._turnstile is not None:
                self._turnstile.close()
                self._turnstile = None
        self._call_next()
        self._changes.wake()
        self._buffer.check()

    def _refuse(self, why: str) -> None:
        """Answer every later call with StorageError."""
        self._refusal = why
        self._readers.close(why)

    # forks

    def before_fork(self) -> None:
        """In the parent: close SQLite's connections, since a child must not inherit any."""
        if self._owner != threading.get_ident():
            self._buffer.drain()
            self._turn.acquire()
            self._lock.acquire()
            if self._session is not None:
                shut(self._session.connection)
                self._session = None
        self._watch_lock.acquire()
        self._shut_watch()
        self._readers.before_fork()

    def after_fork(self, child: bool) -> None:
        """Go on. In the child, everything is opened anew at its next use."""
        inside = self._owner == threading.get_ident()
        clean = self._readers.after_fork(child)
        if not child:
            self._watch_lock.release()
            if not inside:
                self._lock.release()
                self._turn.release()
            return
        if self._turnstile is not None:
            self._turnstile.close()
        self._reset()
        self._watch_lock = threading.Lock()
        self._buffer.after_fork()
        if inside or not clean:
            self._refuse(
                f"this process was forked inside a transaction or amid a long read of {self.path}, so it "
                f"can't use this log: fork outside of it"
            )

    def __repr__(self) -> str:
        return f"SqliteLog({str(self.directory)!r}, durability={self.durability!r})"


def _prepare(directory: Path, path: Path) -> bool:
    """Make the directory; True if the log can be written.

    Raises:
        StorageError: there is no directory and none can be made, or it is somebody else's.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(directory))
    except (FileExistsError, NotADirectoryError):
        raise StorageError(f"{directory} is a file, not a directory: a store needs a directory") from None
    except OSError as error:
        raise StorageError(f"{directory} can't be made or read: {error.strerror}") from error
    writable = os.access(directory, os.W_OK)
    if FILE in names:
        if not path.is_file():
            raise StorageError(f"{path} is no file: choose another directory for the store")
        if not os.access(path, os.R_OK):
            raise StorageError(f"{path} can't be read: permission denied")
        # SQLite would take so small a file for an empty one, and overwrite it. (Looking inside is no
        # option: closing the file would free the locks that this process may hold on it.)
        if 0 < path.stat().st_size < 512:
            raise StorageError(f"{path} is no bizcode log: it isn't an SQLite file")
        return writable and os.access(path, os.W_OK)
    if any(name not in OURS and not name.startswith(".") for name in names):
        raise StorageError(
            f"{directory} is not empty and holds no store: choose an empty directory, or one that doesn't exist"
        )
    if not writable:
        raise StorageError(f"{directory} is read-only and holds no store")
    return True
