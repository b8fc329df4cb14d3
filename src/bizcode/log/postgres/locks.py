"""Locks by name among all machines: advisory locks of the server, freed when their holder's connection ends."""

from __future__ import annotations

import os
from contextlib import suppress

import psycopg

from ..locks import Held
from .pool import Pool
from .server import Connection, Server, lost

__all__ = ["PostgresLocks"]


class PostgresLocks:
    """Implements `bizcode.log.Locks`. Each lock that is held keeps a connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pool = Pool(server)

    def take(self, name: str, *, shared: bool = False, wait: bool = False) -> Held | None:
        function = f"pg_{'' if wait else 'try_'}advisory_lock{'_shared' if shared else ''}"
        for again in (True, False):
            connection = self._pool.take()
            try:
                found = connection.execute(f"select {function}(%s::bigint)", (self._server.key(name),))
                answer = found.fetchone()
            except psycopg.Error as error:
                self._pool.drop(connection)
                if again and lost(error, connection):
                    self._pool.clear()
                    continue
                raise self._server.fault(error) from error
            except BaseException:
                self._pool.drop(connection)
                raise
            if not wait and not (answer and answer[0]):
                self._pool.give(connection)
                return None
            return _Held(self._pool, connection)
        return None

    def close(self) -> None:
        self._pool.close(f"{self._server.shown} has been closed")

    def before_fork(self) -> None:
        self._pool.before_fork(0)

    def after_fork(self, child: bool) -> None:
        self._pool.after_fork(child)


class _Held:
    __slots__ = ("_connection", "_pid", "_pool")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._pid = os.getpid()

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or self._pid != os.getpid():
            return
        try:
            connection.execute("select pg_advisory_unlock_all()")
        except psycopg.Error:
            with suppress(psycopg.Error):
                self._pool.drop(connection)
        except BaseException:
            self._pool.drop(connection)
            raise
        else:
            self._pool.give(connection)
