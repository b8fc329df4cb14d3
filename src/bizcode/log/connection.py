"""One SQLite connection, and the reads that any connection answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..record import Stored

__all__ = ["Cache", "SqliteReader", "connect"]

_COLUMNS = "position, kind, name, time, data, user, id, entity, version, value, experiments"
_MANY = 500


def connect(file: Path, durability: str, readonly: bool = False) -> Any:
    """An open connection with the pragmas of the store."""
    import apsw

    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(file), flags=flags, statementcachesize=128)
    connection.set_busy_timeout(10_000)
    if not readonly:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'disk' else 'NORMAL'}")
        connection.execute("PRAGMA secure_delete = FAST")
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA mmap_size = 268435456")
    return connection


class Cache:
    """Whole small spaces in memory, each good for one number of `changes`."""

    def __init__(self) -> None:
        self.spaces: dict[str, tuple[int, Mapping[str, bytes]]] = {}


class SqliteReader:
    """Reads through one connection."""

    def __init__(self, connection: Any, store_id: str) -> None:
        self._connection = connection
        self.store_id = store_id

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
        return self._connection.execute(sql, values)

    def _one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        row = self._connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def head(self) -> int:
        return self._one("SELECT seq FROM sqlite_sequence WHERE name = 'records'") or 0

    def sealed_to(self) -> int:
        return int(self._one("SELECT value FROM meta WHERE key = 'sealed_to'"))

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        after = max(after, self.sealed_to())
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM records WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (after, 2**62 if until is None else until, -1 if limit is None else limit),
        )
        return list(map(Stored._make, rows))

    def at(self, positions: Iterable[int]) -> list[Stored]:
        wanted = sorted(set(positions))
        found: list[Stored] = []
        for n in range(0, len(wanted), _MANY):
            part = wanted[n : n + _MANY]
            marks = ",".join("?" * len(part))
            sql = f"SELECT {_COLUMNS} FROM records WHERE position IN ({marks}) ORDER BY position"
            found += map(Stored._make, self._rows(sql, tuple(part)))
        return found

    def position_of(self, id: str) -> int | None:
        given = self._one("SELECT position FROM ids WHERE id = ?", (id,))
        if given is not None:
            return given
        prefix, _, number = id.rpartition("-")
        if (
            prefix != self.store_id
            or not number.isdecimal()
            or not number.isascii()
            or str(int(number)) != number
        ):
            return None
        position = int(number)
        if not 0 < position <= self.head():
            return None
        row = self._connection.execute("SELECT id FROM records WHERE position = ?", (position,)).fetchone()
        if row is not None:
            return position if row[0] is None else None
        return position if position <= self.sealed_to() else None

    def entity_version(self, entity: str) -> int:
        return self._one("SELECT max(version) FROM records WHERE entity = ?", (entity,)) or 0

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM records WHERE entity = ? AND version > ? AND version <= ? ORDER BY version",
            (entity, after_version, 2**62 if until_version is None else until_version),
        )
        return map(Stored._make, rows)

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        sql = "SELECT min(entity) FROM records WHERE entity IS NOT NULL AND entity "
        found: list[str] = []
        # A loose scan: one seek per entity, however many events each has.
        this = self._one(f"{sql} >= ?", (prefix,)) if after < prefix else self._one(f"{sql} > ?", (after,))
        while this is not None and this.startswith(prefix) and (limit is None or len(found) < limit):
            found.append(this)
            this = self._one(f"{sql} > ?", (this,))
        return found

    def get(self, space: str, key: str) -> bytes | None:
        return self._one("SELECT value FROM kv WHERE space = ? AND key = ?", (space, key))

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        end = f"{prefix}\U0010ffff\U0010ffff" if prefix else None
        sql = "SELECT key, value FROM kv WHERE space = ? AND key >= ? AND key > ?"
        values: tuple[Any, ...] = (space, prefix, after) if after else (space, prefix, "")
        if not after:
            sql = "SELECT key, value FROM kv WHERE space = ? AND key >= ? AND ? = ''"
        if end is not None:
            sql += " AND key <= ?"
            values += (end,)
        rows = self._rows(f"{sql} ORDER BY key LIMIT ?", (*values, -1 if limit is None else limit))
        return [(key, value) for key, value in rows if key.startswith(prefix)]

    def cached(self, space: str) -> Mapping[str, bytes]:
        return dict(self.scan(space))
