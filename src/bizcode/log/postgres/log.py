"""The log in a schema of a PostgreSQL database, shared by threads, processes and machines."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg

from ...record import Draft, Stored
from ..buffer import Buffer, Later
from ..changes import Changes
from ..interface import Reader
from ..lives import enroll
from ..reads import paged
from .layout import HEAD, prepare
from .locks import PostgresLocks
from .news import News
from .reads import Reads
from .server import Server
from .writing import Writing

__all__ = ["PostgresLog", "open_postgres"]

POLL = 1.0
"""Seconds after which one who waits looks by itself: the server's notice comes sooner, unless it was lost."""

_SIZE = """select coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace where nspname = %s and relkind = 'r'"""
_CHECKS = (
    (
        f"""select {HEAD} - meta.trimmed - (select count(*) from records where position > meta.trimmed)
            - (select count(*) from erased where position > meta.trimmed) from meta""",
        "{} positions of the tail hold no record and were not erased",
    ),
    (f"select count(*) from ids where position > {HEAD}", "{} ids lead beyond the newest record"),
    (
        "select count(*) from records where (entity is null) <> (version is null)",
        "{} records have an entity without a version, or a version without an entity",
    ),
)
_RETIRED = "delete from writers where seen < now() - interval '90 days'"


def open_postgres(url: str, tenant: str | None = None, durability: str = "commit") -> PostgresLog:
    """Open the log at a URL; its schema is laid out at first use.

    Args:
        url: `postgresql://user:password@host:port/database`; `?schema=` chooses the schema ("bizcode").
        tenant: whose schema of its own is meant.
        durability: every commit is as durable as the server's `synchronous_commit` makes it.

    Raises:
        StorageError: the server can't be reached or used; the message says why.
    """
    return PostgresLog(Server(url, tenant), durability)


class PostgresLog(Writing):
    """Implements `Log`. Safe for threads, processes, forks and machines.

    A question is asked again if its connection was lost, for ten seconds. So is an append, unless the server
    says that it was stored. A transaction is not repeated: StorageError says that nothing of it was stored.

    What is erased is gone for every reader at once; its bytes leave the tables with the next `vacuum`, which
    `forget` does, since the server can't overwrite a row in its place.
    """

    def __init__(self, server: Server, durability: str = "commit") -> None:
        self._changes = Changes(self.changes, POLL)
        super().__init__(server, self._changes.tell)
        self.durability = durability
        self.url = server.shown
        try:
            with server.connect() as connection:
                self.store_id = prepare(server, connection)
                connection.execute(_RETIRED)
        except psycopg.Error as error:
            raise server.fault(error) from error
        self.locks = PostgresLocks(server)
        self._news = News(server, self._pool, self._changes.tell)
        self._buffer = Buffer(self.append)
        enroll(self)

    # reads

    def _reads(self, execute: object) -> Reads:
        return Reads(execute, self._spaces, self.store_id)  # type: ignore[arg-type]

    def head(self) -> int:
        return self._pool.ask(lambda execute: self._reads(execute).head())

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        return self._pool.ask(lambda execute: self._reads(execute).read(after, until, limit))

    def at(self, positions: Iterable[int]) -> list[Stored]:
        wanted = list(positions)
        return self._pool.ask(lambda execute: self._reads(execute).at(wanted))

    def position_of(self, id: str) -> int | None:
        return self._pool.ask(lambda execute: self._reads(execute).position_of(id))

    def entity_version(self, entity: str) -> int:
        return self._pool.ask(lambda execute: self._reads(execute).entity_version(entity))

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        return paged(self._events_page, entity, after_version, until_version)

    def _events_page(self, entity: str, after_version: int, until_version: int | None) -> list[Stored]:
        return self._pool.ask(
            lambda execute: self._reads(execute).events_page(entity, after_version, until_version)
        )

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return self._pool.ask(lambda execute: self._reads(execute).entities(prefix, after, limit))

    def get(self, space: str, key: str) -> bytes | None:
        return self._pool.ask(lambda execute: self._reads(execute).get(space, key))

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        return self._pool.ask(lambda execute: self._reads(execute).scan(space, prefix, after, limit))

    def cached(self, space: str) -> Mapping[str, bytes]:
        return self._pool.ask(lambda execute: self._reads(execute).cached(space))

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        with self._pool.moment() as connection:
            reads = self._reads(connection.execute)
            try:
                yield reads
            finally:
                reads.end()

    # writes

    def _before_transaction(self) -> None:
        self._buffer.drain()

    def append_later(self, draft: Draft) -> Later:
        self._pool.check()
        return self._buffer.add(draft)

    def flush(self) -> None:
        """Wait until every buffered write is committed. Raises the error of one that failed, if nobody
        has had it from `result()`."""
        self._pool.check()
        self._buffer.drain()
        self._buffer.check()

    # news

    def changes(self) -> int:
        """How many commits there were, of all writers together."""
        return self._pool.ask(
            lambda execute: execute("select coalesce(sum(serial), 0)::bigint from writers").fetchone()[0]
        )

    def wait(self, changes: int, timeout: float | None = None) -> bool:
        self._pool.check()
        self._news.start()
        return self._changes.wait(changes, timeout)

    def wake(self) -> None:
        self._changes.wake()

    # the store

    def size(self) -> int:
        return self._pool.ask(lambda execute: execute(_SIZE, (self.server.schema,)).fetchone()[0])

    def check(self) -> list[str]:
        """What is wrong with the tables, empty if nothing. PostgreSQL's own `pg_amcheck` looks deeper."""
        found = []
        for statement, sentence in _CHECKS:
            count = self._pool.ask(lambda execute, statement=statement: execute(statement).fetchone()[0])
            if count:
                found.append(sentence.format(count))
        return found

    def close(self) -> None:
        """Commit what is buffered and close. Raises the error of a buffered write that failed,
        if nobody has had it; the log is closed all the same."""
        if self._pool.closed:
            return
        self._refuse_nesting()
        self._buffer.stop()
        with self._turn, self._lock:
            self._pool.close(f"{self.url} has been closed")
            self._drop()
        self._news.close()
        self.locks.close()
        self._call_next()
        self._changes.wake()
        self._buffer.check()

    # forks

    def before_fork(self) -> None:
        """In the parent: hold still, so that the child finds everything whole."""
        if self._owner != threading.get_ident():
            self._buffer.drain()
            self._turn.acquire()
            self._lock.acquire()
        self._news.before_fork()
        self.locks.before_fork()
        self._pool.before_fork()

    def after_fork(self, child: bool) -> None:
        """Go on. In the child, everything is opened anew at its next use; the parent's connections are left
        alone."""
        inside = self._owner == threading.get_ident()
        clean = self._pool.after_fork(child)
        self.locks.after_fork(child)
        self._news.after_fork(child)
        if not child:
            if not inside:
                self._lock.release()
                self._turn.release()
            return
        self._forget_parent()
        self._changes = Changes(self.changes, POLL)
        self._told = self._changes.tell
        self._news = News(self.server, self._pool, self._changes.tell)
        self._buffer.after_fork()
        if inside or not clean:
            self._pool.close(
                f"this process was forked inside a transaction or amid a read of {self.url}, so it can't use "
                "this log: fork outside of it"
            )

    def __repr__(self) -> str:
        return f"PostgresLog({self.url!r}, schema={self.server.schema!r})"
