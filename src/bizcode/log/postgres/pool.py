"""Connections for reading, as many as are in use at the same time.

No limit is set here: a thread that holds a snapshot may need a second connection to go on, and a limit would
then be a deadlock. What is in use at once is bounded by the threads of the program.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from ...errors import StorageError
from .server import Connection, Server, lost

__all__ = ["PATIENCE", "Pool", "abandon", "pauses"]

PATIENCE = 10.0
"""Seconds to try again for, when a connection was lost and the server doesn't come back."""

IDLE = 4
"""So many connections stay open when nobody uses them."""

_T = TypeVar("_T")
_abandoned: list[Any] = []


def abandon(connection: Any) -> None:
    """In a forked child: never touch the parent's connection, not even to close it."""
    _abandoned.append(connection)


def pauses() -> Iterator[float]:
    """Seconds to wait before each next attempt, until patience ends."""
    until = time.monotonic() + PATIENCE
    pause = 0.02
    while time.monotonic() + pause < until:
        yield pause
        pause = min(pause * 2, 1.0)


class Pool:
    """Idle connections, and those in use."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._gate = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._used: dict[Connection, int] = {}
        self._refusal: str | None = None

    def connect(self) -> Connection:
        """A connection; tried for a while if the server is away. Raises StorageError."""
        waits = pauses()
        while True:
            self.check()
            try:
                return self._server.connect()
            except psycopg.Error as error:
                self._wait(waits, error, None)

    def _wait(self, waits: Iterator[float], error: psycopg.Error, connection: Connection | None) -> None:
        """Until the next attempt. Raises StorageError for an error that no other attempt mends, or at last."""
        pause = next(waits, None) if lost(error, connection) else None
        if pause is None:
            raise self._server.fault(error) from error
        time.sleep(pause)

    @property
    def closed(self) -> bool:
        return self._refusal is not None

    def check(self) -> None:
        """Raise StorageError once it is closed."""
        if self._refusal is not None:
            raise StorageError(self._refusal)

    def take(self) -> Connection:
        """An idle connection or a new one; give it back with `give` or `drop`."""
        self.check()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.connect()
        with self._gate:
            self._used[connection] = threading.get_ident()
        return connection

    def give(self, connection: Connection) -> None:
        with self._gate:
            self._used.pop(connection, None)
        if self._refusal is not None or len(self._idle) >= IDLE or connection.closed:
            _shut(connection)
        else:
            self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        with self._gate:
            self._used.pop(connection, None)
        _shut(connection)

    def clear(self) -> None:
        """Close what is idle: after one was lost the others are, as a rule, lost too."""
        while True:
            try:
                _shut(self._idle.pop())
            except IndexError:
                return

    def ask(self, question: Callable[[Any], _T]) -> _T:
        """Ask a question, given a connection's `execute`; again if the connection was lost meanwhile."""
        waits = pauses()
        while True:
            connection = self.take()
            try:
                answer = question(connection.execute)
            except psycopg.Error as error:
                self.drop(connection)
                self._wait(waits, error, connection)
                self.clear()
            except BaseException:
                self.drop(connection)
                raise
            else:
                self.give(connection)
                return answer

    @contextmanager
    def moment(self) -> Iterator[Connection]:
        """A connection whose reads are all of one moment."""
        waits = pauses()
        while True:
            connection = self.take()
            try:
                connection.execute("begin isolation level repeatable read read only")
                connection.execute("select 1 from meta")  # the first read fixes the moment
                break
            except psycopg.Error as error:
                self.drop(connection)
                self.clear()
                self._wait(waits, error, connection)
            except BaseException:
                self.drop(connection)
                raise
        try:
            yield connection
            connection.execute("rollback")
        except psycopg.Error as error:
            self.drop(connection)
            raise self._server.fault(error) from error
        except BaseException:
            self.drop(connection)
            raise
        self.give(connection)

    def close(self, refusal: str) -> None:
        """From now on every call raises StorageError with that sentence."""
        self._refusal = refusal
        self.clear()

    def before_fork(self, patience: float = 1.0) -> None:
        """Nobody takes a connection until `after_fork`; those in use elsewhere are waited for, not for ever."""
        until = time.monotonic() + patience
        me = threading.get_ident()
        while any(thread != me for thread in list(self._used.values())) and time.monotonic() < until:
            time.sleep(0.0005)
        self._gate.acquire()

    def after_fork(self, child: bool) -> bool:
        """Go on. False in a child that has inherited a connection in use."""
        if not child:
            self._gate.release()
            return True
        for connection in (*self._idle, *self._used):
            abandon(connection)
        clean = not self._used
        self._idle.clear()
        self._used.clear()
        self._gate = threading.Lock()
        return clean


def _shut(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.close()
