"""One writer at a time: the write lock, commits that callers share, and what a lost connection does to them."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg

from ...errors import StorageError
from ...record import Draft
from ..bells import new_bell, ring
from ..interface import Appended, Transaction
from ..reads import Spaces
from .pool import Pool, abandon, pauses
from .server import Server
from .transaction import Gone, PostgresTransaction, Session

__all__ = ["Writing"]

PATIENCE = 0.05
"""Seconds until one in the queue looks whether it has been forgotten, by somebody interrupted."""

VACUUM = "5s"
"""How long the rewriting of a table waits for those who read it."""

_ident = threading.get_ident
_Outcome = tuple[list[Appended] | None, Exception | None]


class _Request:
    """Drafts of one caller that wait for a commit shared with others. The caller sleeps at `bell`."""

    __slots__ = ("bell", "drafts", "outcome")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.bell = new_bell()
        self.outcome: _Outcome | None = None


class Writing:
    """The writing half of the log.

    Within the process `_lock` is the write lock and `_turn` its turnstile; between processes an advisory lock
    of the server, which is fair. Callers leave their drafts in a queue; the first of them commits the whole
    queue at once.
    """

    def __init__(self, server: Server, told: Callable[[], None]) -> None:
        self.server = server
        self.store_id = ""
        self.before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None = None
        self.token = secrets.token_hex(8)
        self._pool = Pool(server)
        self._told = told
        self._spaces: Spaces = {}
        self._reset()

    def _reset(self) -> None:
        """As at the beginning; in a forked child this forgets the parent's locks, crowd and connection."""
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._owner = 0
        self._queue: deque[_Request] = deque()
        self._session: Session | None = None

    def _forget_parent(self) -> None:
        if self._session is not None:
            abandon(self._session.connection)
        self.token = secrets.token_hex(8)
        self._reset()

    # appending

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """One transaction of its own, or one shared with concurrent callers. A lost connection is made again
        and the commit repeated, unless it turns out to have taken place."""
        self._refuse_nesting()
        request = _Request(drafts)
        try:
            self._queue.append(request)
            while request.outcome is None:
                if self._turn.locked():
                    request.bell.acquire(timeout=PATIENCE)
                    continue
                with self._turn, self._lock:
                    if request.outcome is None:
                        self._append_queue()
                self._call_next()
        finally:
            if request.outcome is None:
                with suppress(ValueError):
                    self._queue.remove(request)
        self._told()
        answers, error = request.outcome or (None, None)
        if error is not None:
            raise error
        return answers  # type: ignore[return-value]

    def _call_next(self) -> None:
        """After the turn: the first of those who have queued up meanwhile writes for all of them."""
        for request in list(self._queue)[:1]:
            ring(request.bell)

    def _append_queue(self) -> None:
        """Under the lock: commit what everybody in the queue has left there."""
        group = [request for request in list(self._queue) if request.outcome is None]
        try:
            if not self._append_together(group):
                for request in group:
                    self._append_together([request])
        finally:
            while self._queue and self._queue[0].outcome is not None:
                ring(self._queue.popleft().bell)

    def _append_together(self, group: list[_Request]) -> bool:
        """One commit for several callers, each with an answer or an error of its own. False, and nothing
        is stored, if the server refused all of them together: it may not refuse each one alone."""
        waits = pauses()
        self._owner = _ident()
        try:
            while True:
                outcomes: list[_Outcome] = []
                serial = None
                try:
                    session = self._begun()
                    alone = len(group) == 1
                    outcomes.extend(self._append_one(session, request.drafts, alone) for request in group)
                    if all(answers is None for answers, _ in outcomes):
                        session.rollback()
                    else:
                        serial = session.serial + 1
                        session.commit()
                except Gone as gone:
                    self._drop()
                    try:
                        stored = self._committed(gone)
                    except StorageError as error:
                        # Not to be tried again: it may be there.
                        outcomes = [(None, error)] * len(group)
                        stored = True
                    if not stored:
                        pause = next(waits, None)
                        if pause is not None:
                            time.sleep(pause)
                            continue
                        outcomes = [(None, self.server.fault(gone.error))] * len(group)
                except StorageError as error:
                    self._rollback()
                    if len(group) > 1 and self._session is not None:
                        return False
                    outcomes = [(None, error)] * len(group)
                except BaseException as error:
                    self._rollback()
                    if serial is not None:
                        # Interrupted at the commit: the others must not store again what is stored.
                        try:
                            stored = self._committed(Gone(error, serial))
                        except StorageError as unknown:
                            stored = True
                            outcomes = [(None, unknown)] * len(group)
                        if stored:
                            _settle(group, outcomes)
                    raise
                _settle(group, outcomes)
                return True
        finally:
            self._owner = 0

    def _append_one(self, session: Session, drafts: Sequence[Draft], alone: bool) -> _Outcome:
        """One caller's part of a shared commit: what is refused is undone alone."""
        head = session.head
        if not alone:
            session.later(b"savepoint request", None)
        try:
            outcome = PostgresTransaction(session, self.before_append).append(drafts), None
        except Gone:
            raise
        except Exception as error:
            if session.failure is not None:
                raise
            if not alone:
                session.later(b"rollback to savepoint request", None)
                session.head = head
            outcome = None, error
        if not alone:
            session.later(b"release savepoint request", None)
        return outcome

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._refuse_nesting()
        self._before_transaction()
        with self._turn, self._lock:
            self._owner = _ident()
            try:
                session = self._begun(pauses())
                tx = PostgresTransaction(session, self.before_append)
                try:
                    yield tx
                    session.commit()
                except Gone as gone:
                    self._drop()
                    if not self._committed(gone):
                        raise StorageError(
                            f"the connection to {self.server.shown} was lost inside a transaction, so nothing "
                            f"of it was stored: do it again ({gone})"
                        ) from gone.error
                except BaseException:
                    self._rollback()
                    raise
                finally:
                    tx.end()
            finally:
                self._owner = 0
        self._call_next()
        self._told()

    def _before_transaction(self) -> None:
        """Commit what must come before."""

    def vacuum(self) -> None:
        """Give the space of what was trimmed and erased back. Waits for readers at most a few seconds per table;
        one that is read for longer keeps its size, and uses the space again."""
        self._refuse_nesting()
        with self._turn, self._lock:
            self._owner = _ident()
            try:
                self._wipe()
            finally:
                self._owner = 0
        self._call_next()

    def _wipe(self) -> None:
        """Write the tables anew without what was deleted. The server's write-ahead log and backups of it
        hold the old bytes until they are recycled."""
        connection = self._pool.take()
        try:
            connection.execute(f"set lock_timeout = '{VACUUM}'")
            for table in ("records", "ids", "kv"):
                try:
                    connection.execute(f"vacuum (full) {table}")
                except psycopg.errors.LockNotAvailable:
                    connection.execute(f"vacuum {table}")
        except psycopg.Error as error:
            raise self.server.fault(error) from error
        finally:
            self._pool.drop(connection)

    # the connection

    def _begun(self, waits: Iterator[float] | None = None) -> Session:
        """Under the lock: a transaction has begun. With `waits` a lost connection is made again here."""
        while True:
            session = self._session
            if session is None:
                connection = self._pool.connect()
                session = Session(self.server, connection, self._spaces, self.store_id, self.token)
                self._session = session
            self._pool.check()
            try:
                session.begin()
                return session
            except Gone as gone:
                self._drop()
                self._pool.clear()
                pause = None if waits is None else next(waits, None)
                if pause is None:
                    if waits is None:
                        raise
                    raise self.server.fault(gone.error) from gone.error
                time.sleep(pause)

    def _committed(self, gone: Gone) -> bool:
        """Whether the commit took place whose answer was lost. Beginning again waits for the lost transaction
        to end, since it holds the lock.

        Raises:
            StorageError: the server stays away, so that nobody can tell.
        """
        if gone.serial is None:
            return False
        try:
            session = self._begun(pauses())
        except StorageError as error:
            raise StorageError(
                f"{error}; the connection was lost at a commit, and whether it took place can't be told: look "
                "before you write it again, or write with ids, which are stored once"
            ) from error
        found = session.serial >= gone.serial
        session.rollback()
        return found

    def _rollback(self) -> None:
        if self._session is not None:
            self._session.rollback()
            if self._session.connection.closed:
                self._session = None

    def _drop(self) -> None:
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.connection.close()
            self._session = None

    def _refuse_nesting(self) -> None:
        self._pool.check()
        if self._owner == _ident():
            raise StorageError(
                "this thread is inside a transaction of the log already: write with that transaction's methods"
            )


def _settle(group: list[_Request], outcomes: list[_Outcome]) -> None:
    for request, outcome in zip(group, outcomes, strict=True):
        request.outcome = outcome
