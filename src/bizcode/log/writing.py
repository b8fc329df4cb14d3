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
from .bells import new_bell, ring
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

CACHE = 16_384
"""KiB of pages that the writing connection keeps in memory: the indexes of entities and ids."""

PATIENCE = 0.05
"""Seconds until one in the queue looks whether it has been forgotten, by somebody interrupted."""

_ident = threading.get_ident


class _Request:
    """Drafts of one caller that wait for a commit shared with others. The caller sleeps at `bell`."""

    __slots__ = ("answers", "bell", "drafts", "error")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.bell = new_bell()
        self.answers: list[Appended] | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.answers is not None or self.error is not None


class Writing:
    """The writing half of the log.

    Within the process `_lock` is the write lock and `_turn` its turnstile; between processes the
    same pair stands in files. A caller who finds nobody there takes `_lock` and commits. In a crowd
    callers leave their drafts in a queue; one of them commits the whole queue at once, and calls the
    first of those who have come meanwhile to do the same.

    An interrupt (Ctrl-C) may come between any two steps, even amid cleaning up. So a commit's cleaning
    up stands in a block whose own end cleans up again if `_owner`, which is unset last, is still set.
    """

    def __init__(self, path: Path, locks: Path | None, synchronous: str, number: Callable[[], int]) -> None:
        self.path = path
        self.store_id = ""
        self.before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None = None
        self._locks = locks
        self._synchronous = synchronous
        self._syncs = synchronous == "full"
        self._number = number
        self._refusal: str | None = None
        self._spaces: Spaces = {}
        self._reset()

    def _reset(self) -> None:
        """As at the beginning; in a forked child this forgets the parent's locks, crowd and connection."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._owner = 0
        self._queue: deque[_Request] = deque()
        self._session: Session | None = None
        self._turnstile: Turnstile | None = None
        self._changes = Changes(self._number)

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
        session, turnstile = self._opened()
        self._owner = _ident()
        try:
            try:
                turnstile.enter()
                session.begin()
                answers = SqliteTransaction(session, self.before_append).append(drafts)
                session.commit()
            except BaseException as error:
                self._undo(session, error)
                raise
            finally:
                turnstile.leave()
                self._owner = 0
        finally:
            if self._owner:
                self._recover(session, turnstile)
        return answers

    def _append_in_crowd(self, drafts: Sequence[Draft]) -> list[Appended]:
        self._refuse_nesting()
        request = _Request(drafts)
        try:
            self._queue.append(request)
            while not request.done:
                # Where a commit waits for the disk it pays to sleep until somebody has committed for all;
                # elsewhere commits are so short that standing in line costs less than being called.
                if self._syncs and self._turn.locked():
                    request.bell.acquire(timeout=PATIENCE)
                    continue
                with self._turn, self._lock:
                    if not request.done:
                        self._append_queue()
                self._call_next()
        finally:
            if not request.done:
                with suppress(ValueError):
                    self._queue.remove(request)
        self._changes.tell()
        if request.error is not None:
            raise request.error
        return request.answers  # type: ignore[return-value]

    def _call_next(self) -> None:
        """After the turn: the first of those who have queued up meanwhile writes for all of them."""
        for request in list(self._queue)[:1]:
            ring(request.bell)

    def _append_queue(self) -> None:
        """Under the lock: commit what everybody in the queue has left there. A request stays in the queue
        until it is done, so that none is lost when the one who commits it is interrupted."""
        group = [request for request in list(self._queue) if not request.done]
        try:
            if not self._append_together(group):
                for request in group:
                    self._append_together([request])
        finally:
            while self._queue and self._queue[0].done:
                ring(self._queue.popleft().bell)

    def _append_together(self, group: list[_Request]) -> bool:
        """One commit for several callers, each with an answer or an error of its own. False, and nothing
        is stored, if the storage refused all of them together: it may not refuse each one alone."""
        try:
            session, turnstile = self._opened()
        except StorageError as error:
            _settle(group, [(None, error)] * len(group))
            return True
        results: list[tuple[list[Appended] | None, Exception | None]] = []
        self._owner = _ident()
        try:
            try:
                turnstile.enter()
                session.begin()
                results.extend(self._append_one(session, request.drafts) for request in group)
                session.commit()
                _settle(group, results)
            except (apsw.Error, StorageError, OSError) as error:
                self._rollback(session)
                if len(group) > 1:
                    return False
                error = error if isinstance(error, StorageError) else fault(error, self.path)
                _settle(group, [(None, error)])
            except BaseException:
                if len(results) == len(group) and not session.connection.in_transaction:
                    _settle(group, results)  # interrupted after the commit
                self._rollback(session)
                raise
            finally:
                turnstile.leave()
                self._owner = 0
        finally:
            if self._owner:
                self._recover(session, turnstile)
        return True

    def _append_one(
        self, session: Session, drafts: Sequence[Draft]
    ) -> tuple[list[Appended] | None, Exception | None]:
        """One caller's part of a shared commit: what is refused is undone alone."""
        head = session.head
        session.execute("savepoint request")
        answers, refusal = None, None
        try:
            answers = SqliteTransaction(session, self.before_append).append(drafts)
        except Exception as error:
            if session.failure is not None:
                raise
            session.execute("rollback to request")
            session.head = head
            refusal = error
        session.execute("release request")
        return answers, refusal

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._refuse_nesting()
        self._before_transaction()
        with self._turn, self._lock:
            session, turnstile = self._opened()
            tx = SqliteTransaction(session, self.before_append)
            self._owner = _ident()
            try:
                try:
                    turnstile.enter()
                    session.begin()
                    yield tx
                    session.commit()
                    if session.scrub is not False:
                        session.wipe()
                except BaseException as error:
                    self._undo(session, error)
                    raise
                finally:
                    tx.end()
                    turnstile.leave()
                    self._owner = 0
            finally:
                if self._owner:
                    self._recover(session, turnstile)
        self._call_next()
        self._changes.tell()

    def _before_transaction(self) -> None:
        """Commit what must come before."""

    def vacuum(self) -> None:
        """Give the space of what was trimmed and erased back to the disk. Writers wait meanwhile."""
        self._refuse_nesting()
        with self._turn, self._lock:
            session, turnstile = self._opened()
            self._owner = _ident()
            try:
                try:
                    turnstile.enter()
                    session.execute("vacuum")
                    session.wipe()
                except BaseException as error:
                    self._undo(session, error)
                    raise
                finally:
                    turnstile.leave()
                    self._owner = 0
            finally:
                if self._owner:
                    self._recover(session, turnstile)
        self._call_next()

    def _undo(self, session: Session, error: BaseException) -> None:
        """Roll back; raises an error of SQLite as StorageError."""
        self._rollback(session)
        if isinstance(error, apsw.Error):
            raise fault(error, self.path) from error

    def _rollback(self, session: Session) -> None:
        try:
            session.rollback()
        except apsw.Error:
            self._session = None
            shut(session.connection)

    def _recover(self, session: Session, turnstile: Turnstile) -> None:
        """Clean up again after an interrupted cleaning up."""
        self._rollback(session)
        turnstile.leave()
        self._owner = 0

    # the connection

    def _opened(self) -> tuple[Session, Turnstile]:
        """Under the lock: the writing connection and the lock between processes."""
        session, turnstile = self._session, self._turnstile
        if session is None or turnstile is None:
            return self._open()
        return session, turnstile

    def _open(self) -> tuple[Session, Turnstile]:
        """Open them, anew after a fork. The first one of all lays out the file."""
        self._refuse_if_closed()
        if self._locks is None:
            raise StorageError(f"{self.path} is read-only: the store can be read, but not written")
        connection = None
        try:
            turnstile = self._turnstile = self._turnstile or Turnstile(self._locks)
            connection = connect(self.path, "rwc")
            execute = connection.cursor().execute
            if not schema.inspect(execute, self.path):
                self._create(connection, turnstile)
            execute("pragma journal_mode = wal").fetchall()
            execute(f"pragma journal_size_limit = {JOURNAL}").fetchall()
            execute(f"pragma synchronous = {self._synchronous}")
            execute("pragma secure_delete = on").fetchall()
            execute(f"pragma cache_size = -{CACHE}")
            session = Session(connection, self.path, self._spaces, schema.store_id(execute))
        except BaseException as error:
            if connection is not None:
                shut(connection)
            if isinstance(error, (apsw.Error, OSError)):
                raise fault(error, self.path) from error
            raise
        self._session = session
        return session, turnstile

    def _create(self, connection: apsw.Connection, turnstile: Turnstile) -> None:
        """Lay out a fresh file, unless another process has just done so."""
        execute = connection.cursor().execute
        try:
            turnstile.enter()
            execute("pragma journal_mode = wal").fetchall()
            execute("begin immediate")
            if not schema.inspect(execute, self.path):
                schema.create(execute)
            execute("commit")
        finally:
            turnstile.leave()

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            raise StorageError(self._refusal)

    def _refuse_nesting(self) -> None:
        if self._owner == _ident():
            raise StorageError(
                "this thread is inside a transaction of the log already: write with that transaction's methods"
            )


def _settle(group: list[_Request], results: list[tuple[list[Appended] | None, Exception | None]]) -> None:
    for request, (answers, error) in zip(group, results, strict=True):
        request.answers, request.error = answers, error
