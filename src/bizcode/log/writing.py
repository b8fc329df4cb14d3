"""One writer at a time: the write lock, its fair queue, and commits that callers share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from ..errors import StorageError
from ..record import Draft
from . import schema
from .changes import Changes
from .connections import connect, shut
from .faults import fault
from .interface import Appended, Transaction
from .locks import Turnstile
from .reads import Spaces
from .transaction import Session, SqliteTransaction

__all__ = ["Writing"]

JOURNAL = 64 * 2**20
"""Bytes that the write-ahead log keeps on disk after a reader had made it grow."""

_ident = threading.get_ident


class _Request:
    """Drafts of one caller that wait for a commit shared with others."""

    __slots__ = ("answers", "drafts", "error")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.answers: list[Appended] | None = None
        self.error: BaseException | None = None


class Writing:
    """The writing half of the log.

    Within the process `_lock` is the write lock and `_turn` its turnstile; between processes the
    same pair stands in files. A caller who finds nobody there takes `_lock` and commits. In a crowd
    callers leave their drafts in a queue and line up; whoever gets the lock commits the whole queue
    at once. Interrupts (Ctrl-C) may come between any two steps: each is undone by the block it is in.
    """

    def __init__(self, path: Path, locks: Path | None, synchronous: str, number: Callable[[], int]) -> None:
        self.path = path
        self.store_id = ""
        self.before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None = None
        self._locks = locks
        self._synchronous = synchronous
        self._refusal: str | None = None
        self._spaces: Spaces = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._owner = 0
        self._queue: deque[_Request] = deque()
        self._session: Session | None = None
        self._turnstile: Turnstile | None = None
        self._number = number
        self._changes = Changes(number)

    # appending

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """One transaction of its own, or one shared with concurrent callers."""
        if self._turn.locked() or self._lock.locked():
            return self._append_in_crowd(drafts)
        with self._lock:
            answers = self._append(drafts)
        self._changes.tell()
        return answers

    def _append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Under the lock: one transaction."""
        session = self._session or self._open()
        turnstile = self._turnstile
        self._owner = _ident()
        try:
            turnstile.enter()  # type: ignore[union-attr]
            session.begin()
            answers = SqliteTransaction(session, self.before_append).append(drafts)
            session.commit()
        except BaseException as error:
            self._undo(session, error)
            raise
        finally:
            turnstile.leave()  # type: ignore[union-attr]
            self._owner = 0
        return answers

    def _append_in_crowd(self, drafts: Sequence[Draft]) -> list[Appended]:
        self._refuse_nesting()
        request = _Request(drafts)
        self._queue.append(request)
        try:
            with self._turn, self._lock:
                if request.answers is None and request.error is None:
                    self._append_queue()
        except BaseException:
            with suppress(ValueError):
                self._queue.remove(request)
            raise
        self._changes.tell()
        if request.error is not None:
            raise request.error
        return request.answers  # type: ignore[return-value]

    def _append_queue(self) -> None:
        """Under the lock: commit what everybody in the queue has left there."""
        group: list[_Request] = []
        try:
            while self._queue:
                group.append(self._queue.popleft())
            if len(group) == 1 or not self._append_together(group):
                for request in group:
                    try:
                        request.answers = self._append(request.drafts)
                    except Exception as error:  # noqa: BLE001
                        request.error = error
        finally:
            self._queue.extendleft(
                request for request in reversed(group) if request.answers is None and request.error is None
            )

    def _append_together(self, group: list[_Request]) -> bool:
        """One commit for several callers, each with an answer or an error of its own.
        False, and nothing is stored, if the storage refused: it may not refuse each of them alone."""
        session = self._session or self._open()
        turnstile = self._turnstile
        self._owner = _ident()
        results: list[tuple[list[Appended] | None, Exception | None]] = []
        try:
            turnstile.enter()  # type: ignore[union-attr]
            session.begin()
            for request in group:
                head = session.head
                session.execute("savepoint request")
                try:
                    answers = SqliteTransaction(session, self.before_append).append(request.drafts)
                    results.append((answers, None))
                except Exception as error:
                    if session.failure is not None:
                        raise
                    session.execute("rollback to request")
                    session.head = head
                    results.append((None, error))
                session.execute("release request")
            session.commit()
        except (apsw.Error, StorageError):
            session.rollback()
            return False
        except BaseException as error:
            committed = len(results) == len(group) and not session.connection.in_transaction
            self._undo(session, error)
            if committed:
                self._settle(group, results)
            raise
        finally:
            turnstile.leave()  # type: ignore[union-attr]
            self._owner = 0
        self._settle(group, results)
        return True

    @staticmethod
    def _settle(group: list[_Request], results: list[tuple[list[Appended] | None, Exception | None]]) -> None:
        for request, (answers, error) in zip(group, results, strict=True):
            request.answers, request.error = answers, error

    # transactions

    @contextmanager
    def _exclusive(self) -> Iterator[Session]:
        """The write lock, within the process and between processes."""
        with self._turn, self._lock:
            session = self._session or self._open()
            turnstile = self._turnstile
            self._owner = _ident()
            try:
                turnstile.enter()  # type: ignore[union-attr]
                yield session
            except BaseException as error:
                self._undo(session, error)
                raise
            finally:
                turnstile.leave()  # type: ignore[union-attr]
                self._owner = 0

    @contextmanager
    def _writing(self) -> Iterator[SqliteTransaction]:
        """A transaction for the length of a block."""
        with self._exclusive() as session:
            session.begin()
            tx = SqliteTransaction(session, self.before_append)
            try:
                yield tx
            finally:
                tx.end()
            session.commit()
            if session.scrub:
                session.wipe()
        self._changes.tell()

    def _undo(self, session: Session, error: BaseException) -> None:
        """Roll back; raises an error of SQLite as StorageError."""
        try:
            session.rollback()
        except apsw.Error:
            self._session = None
            shut(session.connection)
        if isinstance(error, (apsw.Error, OSError)):
            raise fault(error, self.path) from error

    # the connection

    def _open(self) -> Session:
        """Under the lock: the writing connection, opened anew after a fork. The first one of all
        lays out the file."""
        self._refuse_if_closed()
        if self._locks is None:
            raise StorageError(f"{self.path} is read-only: the store can be read, but not written")
        connection = None
        try:
            if self._turnstile is None:
                self._turnstile = Turnstile(self._locks)
            connection = connect(self.path, "rwc")
            execute = connection.cursor().execute
            if not schema.inspect(execute, self.path):
                self._create(connection)
            execute("pragma journal_mode = wal").fetchall()
            execute(f"pragma journal_size_limit = {JOURNAL}").fetchall()
            execute(f"pragma synchronous = {self._synchronous}")
            execute("pragma secure_delete = on").fetchall()
            session = Session(connection, self.path, self._spaces, schema.store_id(execute))
        except BaseException as error:
            if connection is not None:
                shut(connection)
            if isinstance(error, (apsw.Error, OSError)):
                raise fault(error, self.path) from error
            raise
        self._session = session
        return session

    def _create(self, connection: apsw.Connection) -> None:
        """Lay out a fresh file, unless another process has just done so."""
        execute = connection.cursor().execute
        turnstile = self._turnstile
        try:
            turnstile.enter()  # type: ignore[union-attr]
            execute("pragma journal_mode = wal").fetchall()
            execute("begin immediate")
            if not schema.inspect(execute, self.path):
                schema.create(execute)
            execute("commit")
        finally:
            turnstile.leave()  # type: ignore[union-attr]

    def _reset(self) -> None:
        """In a forked child: forget the parent's locks, its crowd and its connection."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._owner = 0
        self._queue = deque()
        self._session = None
        self._changes = Changes(self._number)

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            raise StorageError(self._refusal)

    def _refuse_nesting(self) -> None:
        if self._owner == _ident():
            raise StorageError(
                "this thread is inside a transaction of the log already: write with that transaction's methods"
            )
