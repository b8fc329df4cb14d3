"""Opening the log's file, the pool of connections for reading, and what a fork does to them."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from ..errors import StorageError
from .faults import fault
from .reads import Reads, Spaces

__all__ = ["Lease", "Readers", "connect", "shut"]

BUSY = 60_000
"""Milliseconds to wait for a lock that a foreign program holds. Among our own the turnstile decides."""


def connect(path: Path, mode: str = "rw") -> apsw.Connection:
    """A connection of its own to the log's file.

    Args:
        mode: "rwc" also creates the file; "ro" needs no right to write; "immutable" also needs no
            other file beside it, and must not be used while anybody writes.
    """
    options = "immutable=1" if mode == "immutable" else f"mode={mode}"
    flags = apsw.SQLITE_OPEN_URI | (
        apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        if mode == "rwc"
        else apsw.SQLITE_OPEN_READWRITE
        if mode == "rw"
        else apsw.SQLITE_OPEN_READONLY
    )
    connection = apsw.Connection(f"file:{quote(str(path))}?{options}", flags=flags)
    connection.set_busy_timeout(BUSY)
    return connection


class Lease(Reads):
    """A pooled connection in use: `with readers.take() as reads`. SQLite's errors leave it as StorageError."""

    __slots__ = ("_readers", "connection", "execute", "thread")

    def __init__(self, readers: Readers, connection: apsw.Connection) -> None:
        super().__init__(connection.cursor().execute, readers.spaces, readers.store_id)
        self.connection = connection
        self.execute = self._execute
        self.thread = 0
        """Whose snapshot it is, if it is one."""
        self._readers = readers

    def finish(self) -> None:
        """End a transaction, if one is open."""
        if self.connection.in_transaction:
            self.execute("rollback")

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        readers = self._readers
        if error is None and readers.keep:
            readers.idle.append(self)
            return
        readers.drop(self)
        if isinstance(error, apsw.Error):
            raise fault(error, readers.path) from error


class Readers:
    """Connections for reading, as many as are in use at the same time."""

    def __init__(self, path: Path, writable: bool, spaces: Spaces) -> None:
        self.path = path
        self.spaces = spaces
        self.store_id = ""
        self.idle: deque[Lease] = deque()
        self.keep = writable
        """Where the directory can't be written each question opens the file anew: see `_connect`."""
        self._writable = writable
        self._refusal: str | None = None
        self._gate = threading.Lock()
        self._open: set[Lease] = set()

    def take(self) -> Lease:
        """An idle connection, or a new one."""
        try:
            return self.idle.pop()
        except IndexError:
            pass
        with self._gate:
            if self._refusal is not None:
                raise StorageError(self._refusal)
            try:
                lease = Lease(self, self._connect())
            except apsw.Error as error:
                raise fault(error, self.path) from error
            self._open.add(lease)
            return lease

    def _connect(self) -> apsw.Connection:
        if self._writable:
            connection = connect(self.path, "rw")
            connection.execute("pragma query_only = on")
            return connection
        # Without the right to write, the file can be read beside the write-ahead log's files if a
        # writer has made them, else as a file that doesn't change. Which of the two may differ each time.
        try:
            connection = connect(self.path, "ro")
            connection.execute("select 1 from sqlite_schema").fetchall()
        except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.IOError):
            journal = self.path.with_name(self.path.name + "-wal")
            if journal.exists() and journal.stat().st_size:
                raise StorageError(
                    f"{self.path} was left by a crash and is read-only: open it once with the right to write"
                ) from None
            connection = connect(self.path, "immutable")
        return connection

    def drop(self, lease: Lease) -> None:
        """Close a connection rather than keep it."""
        self._open.discard(lease)
        shut(lease.connection)

    def close(self, refusal: str) -> None:
        """Close what is idle; what is in use is closed when it is given back. From then on `take`
        raises StorageError with that sentence."""
        self._refusal = refusal
        self.keep = False
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                lease = self.idle.pop()
            except IndexError:
                return
            self.drop(lease)

    def before_fork(self, patience: float = 1.0) -> None:
        """Close everything, so that the child inherits nothing of SQLite's; nobody takes a connection
        until `after_fork`. Waits for those in use elsewhere, but not for ever."""
        self._gate.acquire()
        self.keep = False
        until = time.monotonic() + patience
        me = threading.get_ident()
        while True:
            self._close_idle()
            if all(lease.thread == me for lease in self._open) or time.monotonic() > until:
                return
            time.sleep(0.0005)

    def after_fork(self, child: bool) -> bool:
        """Go on, in the parent or in the child. False if the child has inherited a connection that was
        in use: SQLite then believes it holds locks that only the parent holds."""
        self.keep = self._writable and self._refusal is None
        if not child:
            self._gate.release()
            return True
        # What is left is this thread's own snapshot, which can be closed, or one that another thread was
        # in the middle of using, which can't.
        clean = True
        for lease in self._open:
            clean &= shut(lease.connection)
        self._open.clear()
        self._gate = threading.Lock()
        return clean


def shut(connection: apsw.Connection, checkpoint: bool = False) -> bool:
    """Close a connection. Only with `checkpoint` the last one of all tidies up the write-ahead log,
    which takes two syncs of the disk. False if it can't be closed."""
    try:
        if not checkpoint:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(True)
    except apsw.Error:
        # In the middle of a call that no thread of this process will end: keep it for ever, untouched.
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        return False
    return True
