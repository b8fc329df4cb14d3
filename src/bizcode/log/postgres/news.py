"""News of others' commits: a connection of its own that the server notifies."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from ...errors import StorageError
from .pool import Pool, abandon
from .server import Connection, Server

__all__ = ["News"]

PAUSE = 0.5
"""Seconds between two attempts to reach a server that is away."""


class News:
    """Calls `ring` when somebody else has committed. Begins to listen at its first `start`."""

    def __init__(self, server: Server, pool: Pool, ring: Callable[[], None]) -> None:
        self._listen = f"listen {server.channel}".encode()
        self._pool = pool
        self._ring = ring
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._stop: tuple[int, int] | None = None
        self._closed = False

    def start(self) -> None:
        """Listen from now on. Raises StorageError if the server is away."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._closed:
                self._connection = self._listening()
                self._stop = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                self._thread = threading.Thread(target=self._follow, name="bizcode-news", daemon=True)
                self._thread.start()

    def _listening(self) -> Connection:
        connection = self._pool.connect()
        connection.execute(self._listen)
        return connection

    def _follow(self) -> None:
        assert self._stop is not None
        stop = self._stop[0]
        while not self._closed:
            connection = self._connection
            if connection is None:
                if select.select([stop], [], [], PAUSE)[0]:
                    return
                with suppress(StorageError, psycopg.Error):
                    self._connection = self._listening()
                    self._ring()  # something may have been missed
                continue
            try:
                if stop in select.select([connection.fileno(), stop], [], [])[0]:
                    return
                connection.pgconn.consume_input()
                heard = False
                while connection.pgconn.notifies() is not None:
                    heard = True
                if heard:
                    self._ring()
            except (psycopg.Error, OSError, ValueError):
                connection.close()
                self._connection = None
                self._ring()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        with self._lock:
            thread, stop = self._thread, self._stop
            if thread is None or stop is None:
                return
            os.write(stop[1], b"x")
            if thread is not threading.current_thread():
                thread.join()
            if self._connection is not None:
                self._connection.close()
            for end in stop:
                os.close(end)
            self._thread = self._connection = self._stop = None

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork(self, child: bool) -> None:
        if not child:
            self._lock.release()
            return
        if self._connection is not None:
            abandon(self._connection)
        for end in self._stop or ():
            os.close(end)
        self._reset()
