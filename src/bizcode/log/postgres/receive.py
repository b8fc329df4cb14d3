"""A schema that takes up another log's rows as they are, with their positions: the far end of a move.

While it goes on, and after it was broken off, the schema says so, and nothing but a move opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from ...errors import StorageError
from ..reads import PAGE
from .layout import COLUMNS, FORMAT, MOVING, prepare
from .reads import Reads
from .server import Connection, Server
from .text import given, kept

__all__ = ["Receiver"]

_COPY = {
    "records": f"copy records ({COLUMNS}) from stdin",
    "ids": "copy ids (id, position) from stdin",
    "erased": "copy erased (position) from stdin",
    "kv": "copy kv (space, key, value) from stdin",
}
_LAST = {
    "records": "select position from records order by position desc limit 1",
    "ids": "select id from ids order by id desc limit 1",
    "erased": "select position from erased order by position desc limit 1",
    "kv": "select space, key from kv order by space desc, key desc limit 1",
}
_BACK = {
    "ids": "select id, position from ids order by id",
    "erased": "select position from erased order by position",
    "kv": "select space, key, value from kv order by space, key",
}
_STATE = ("move", "state")


class Receiver:
    """Use as a context manager. Raises StorageError where the schema holds a business already."""

    def __init__(self, url: str, tenant: str | None = None) -> None:
        self._server = Server(url, tenant)
        self.shown = self._server.shown
        self._store = ""
        self._connection: Connection | None = None

    def __enter__(self) -> Receiver:
        with self._explained():
            self._connection = self._server.connect()
            try:
                prepare(self._server, self._connection, moving=True)
            except BaseException:
                self._connection.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._server.fault(error, "; run the move again, it goes on from here") from error

    @property
    def _open(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def begin(self, store_id: str, state: str, done: str) -> bool:
        """Take up rows of that store at that state of it. What an earlier move has brought stays; what it
        brought of another state is dropped. False if all was brought already, as `done` says.

        Raises:
            StorageError: the schema holds another business, or this one at another state.
        """
        self._store = store_id
        with self._explained():
            held = self._open.execute("select format, store from meta").fetchone()
            found = self._open.execute(
                "select value from kv where space = 'move' and key = 'done'"
            ).fetchone()
        if held is not None and held[0] != MOVING:
            if held[1] == store_id and found is not None and found[0] == done.encode():
                return False
            raise StorageError(
                f"{self.shown} holds a business already, in the schema {self._server.schema!r}: "
                "name another with ?schema= in the URL"
            )
        with self._explained(), self._open.transaction():
            self._open.execute("select pg_advisory_xact_lock(%s::bigint)", (self._server.key("write"),))
            found = self._open.execute(
                "select store from meta join kv on space = %s and key = %s and value = %s::bytea",
                (*_STATE, state.encode()),
            ).fetchone()
            if found is not None and found[0] == store_id:
                return True
            self._open.execute("truncate records, ids, erased, kv, spaces, writers")
            self._open.execute("update meta set store = %s", (store_id,))
            self._open.execute("insert into kv values (%s, %s, %s)", (*_STATE, state.encode()))
        return True

    def last(self, part: str) -> tuple[Any, ...] | None:
        """The key up to which a part was brought. State is always brought anew, since it changes in place."""
        if part == "kv":
            return None
        with self._explained():
            found = self._open.execute(_LAST[part].encode()).fetchone()
        return None if found is None else tuple(given(v) if isinstance(v, str) else v for v in found)

    def clear_state(self) -> None:
        """Drop the state that an earlier move has brought."""
        with self._explained():
            self._open.execute("delete from kv where (space, key) <> (%s, %s)", _STATE)

    def take(self, part: str, rows: list[Any]) -> None:
        """Store a page of rows, all or none."""
        statement = _COPY[part].encode()
        with (
            self._explained(),
            self._open.transaction(),
            self._open.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for row in rows:
                copy.write_row(_record(row) if part == "records" else _kept(row))

    def rows(self, part: str) -> Iterator[Any]:
        """What lies there now, in order, to be compared."""
        with self._explained():
            if part == "records":
                reads = Reads(self._open.execute, {}, self._store)
                after = -1
                while found := reads.raw(after, PAGE * 10):
                    yield from found
                    after = found[-1].position
                return
            with self._open.transaction(), self._open.cursor("back") as cursor:
                cursor.itersize = PAGE * 10
                for row in cursor.execute(_BACK[part].encode()):
                    if row[:2] != _STATE:
                        yield tuple(given(value) if isinstance(value, str) else value for value in row)

    def finish(self, done: str, trimmed: int, floor: int, settings: dict[str, bytes]) -> None:
        """From now on it is a business as any other. `done` is kept, by which the move is known to be."""
        with self._explained(), self._open.transaction():
            self._open.execute("delete from kv where space = %s", _STATE[:1])
            self._open.execute("insert into kv values (%s, 'done', %s)", (_STATE[0], done.encode()))
            for key, value in settings.items():
                self._open.execute(
                    "insert into kv values ('settings', %s, %s) "
                    "on conflict (space, key) do update set value = excluded.value",
                    (key, value),
                )
            self._open.execute("insert into spaces select distinct space, 1 from kv")
            self._open.execute(
                "update meta set format = %s, trimmed = %s, floor = %s", (FORMAT, trimmed, floor)
            )
        with self._explained():
            self._open.execute("analyze records")


def _kept(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(kept(value) if isinstance(value, str) else value for value in row)


def _record(row: Any) -> tuple[Any, ...]:
    position, kind, name, time, data, user, id, entity, version, value, experiments = _kept(row)
    whole, real = (value, None) if type(value) is int else (None, value)
    return position, kind, name, time, data, user, id, entity, version, whole, real, experiments
