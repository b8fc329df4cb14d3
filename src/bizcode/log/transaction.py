"""The writing side of one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw
import orjson

from ..errors import Conflict, StorageError
from ..record import Draft
from .connections import BUSY
from .faults import fault
from .interface import Appended
from .reads import HEAD, Reads, Spaces, beyond, ended

__all__ = ["Hook", "Session", "SqliteTransaction"]

Hook = Callable[[Any, Sequence[Draft]], Sequence[Draft]]

_INSERT = """insert into records (position, kind, name, time, data, user, id, entity, version, value, experiments)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_ID = "insert into ids values (?, ?)"
_KNOWN = "select position from ids where id = ?"
_KNOWN_SOME = "select id, position from ids where id in (select value from json_each(?))"
_VERSION = "select max(version) from records where entity = ?"
_TOUCH = "insert into spaces values (?, 1) on conflict do update set generation = generation + 1"
_PUT = "insert into kv values (?, ?, ?) on conflict do update set value = excluded.value"
_DELETE = "delete from kv where space = ? and key = ?"
_CLEAR = "delete from kv where space = ? and key >= ? and key < ?"
_TRIM = """delete from records where entity is null and position <= ?1
    and position > (select value from meta where key = 'trimmed')"""
_META = "update meta set value = max(value, ?) where key = ?"
_ERASED_IDS = """select id from records
    where id is not null and position in (select value from json_each(?))"""
_ERASE = "delete from records where position in (select value from json_each(?))"
_ERASE_IDS = "delete from ids where id in (select value from json_each(?))"
_ERASE_SEALED_IDS = "delete from ids where position in (select value from json_each(?))"
_REMEMBER = """insert or ignore into erased
    select value from json_each(?1) where value between 1 and ?2"""

_new = tuple.__new__
_MANY = 20
PATIENCE = 500
"""Milliseconds that emptying the write-ahead log waits for readers."""

_NONE: frozenset[str] = frozenset()


class Session:
    """The writing connection and what is known of the log as long as nobody else commits.

    Every method is called under the write lock.
    """

    def __init__(self, connection: apsw.Connection, path: Path, spaces: Spaces, store_id: str) -> None:
        cursor = connection.cursor()
        self.connection = connection
        self.path = path
        self.execute: Callable[..., Any] = cursor.execute
        self.spaces = spaces
        self.store_id = store_id
        self.head = 0
        self.fresh: dict[str, Mapping[str, bytes]] = {}
        """Small spaces as they are on disk; void once somebody else has committed."""
        self.dirty: set[str] = set()
        """Spaces written to since `begin`."""
        self.scrub: bool | None = False
        """Erased bytes may still stand in the write-ahead log; None if readers kept them there."""
        self.failure: StorageError | None = None
        self._executemany = cursor.executemany
        self._data_version = connection.data_version
        self._version = -1

    def begin(self) -> None:
        """Start writing; look again at what may have changed if others have written since."""
        self.execute("begin immediate")
        if self.dirty:
            self.dirty.clear()
        if self._data_version() != self._version:
            self.fresh.clear()
            self.failure = None
            self.head = self.execute(HEAD).fetchall()[0][0]

    def commit(self) -> None:
        """Make it so, for good."""
        if self.failure is not None:
            raise self.failure
        self.execute("commit")
        self._version = self._data_version()

    def rollback(self) -> None:
        """Undo everything since `begin`; right in any state."""
        self._version = -1
        if self.connection.in_transaction:
            self.execute("rollback")

    def wipe(self) -> None:
        """Empty the write-ahead log, which may still hold what was erased. If readers stand in the way,
        the following transactions try again, without waiting for them."""
        self.connection.set_busy_timeout(0 if self.scrub is None else PATIENCE)
        try:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self.scrub = False
        except apsw.BusyError:
            self.scrub = None
        finally:
            self.connection.set_busy_timeout(BUSY)

    def run(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Execute inside a transaction: after an error of the storage it can't be committed any more."""
        try:
            return self.execute(statement, values)
        except apsw.Error as error:
            self.failure = fault(error, self.path)
            raise self.failure from error

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once per row."""
        try:
            self._executemany(statement, rows)
        except apsw.Error as error:
            self.failure = fault(error, self.path)
            raise self.failure from error

    def changed(self) -> int:
        """How many rows the last statement changed."""
        return self.connection.changes()


class SqliteTransaction(Reads):
    """Implements `Transaction`; ends with the block that it was made for."""

    __slots__ = ("_guarding", "_hook", "_many", "_session", "_touched")

    def __init__(self, session: Session, hook: Hook | None) -> None:
        self._execute = session.run
        self._many = session.run_many
        self._spaces = session.spaces
        self._store_id = session.store_id
        self._session = session
        self._hook = hook
        self._guarding = False
        self._touched: frozenset[str] = _NONE

    def end(self) -> None:
        """Refuse any further use."""
        self._execute = self._many = ended

    # records

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        given = len(drafts)
        if self._hook is not None and not self._guarding:
            self._guarding = True
            try:
                drafts = self._hook(self, drafts)
            finally:
                self._guarding = False
        session = self._session
        if len(drafts) == 1:
            kind, name, time, data, user, id, entity, value, experiments, _ = drafts[0]
            if id is None and entity is None:
                position = session.head + 1
                self._execute(
                    _INSERT, (position, kind, name, time, data, user, None, None, None, value, experiments)
                )
                session.head = position
                return [_new(Appended, (position, None, experiments, False))]
        rows, ids, answers = self._rows(drafts, session.head)
        if rows:
            self._many(_INSERT, rows)
            if ids:
                self._many(_INSERT_ID, ids.items())
            session.head = rows[-1][0]
        return answers if len(answers) == given else answers[:given]

    def _rows(
        self, drafts: Sequence[Draft], position: int
    ) -> tuple[list[tuple[Any, ...]], dict[str, int], list[Appended]]:
        """What is to be inserted, and the answers; everything is checked before anything is written."""
        rows: list[tuple[Any, ...]] = []
        answers: list[Appended] = []
        known = self._known([id for draft in drafts if (id := draft[5]) is not None])
        ids: dict[str, int] = {}
        versions: dict[str, int] = {}
        for kind, name, time, data, user, id, entity, value, experiments, expect in drafts:
            if id is not None:
                found = known.get(id)
                if found is not None:
                    answers.append(_new(Appended, (found, None, None, True)))
                    continue
                known[id] = ids[id] = position + 1
            version = None
            if entity is not None:
                version = versions.get(entity)
                if version is None:
                    version = self.entity_version(entity)
                if expect is not None and expect != version:
                    raise Conflict(
                        f"{entity} is at version {version}, not at the expected {expect}: another writer "
                        f"got there first"
                    )
                versions[entity] = version = version + 1
            position += 1
            rows.append((position, kind, name, time, data, user, id, entity, version, value, experiments))
            answers.append(_new(Appended, (position, version, experiments, False)))
        return rows, ids, answers

    def _known(self, ids: list[str]) -> dict[str, int]:
        """Positions of those ids that the log has."""
        if len(ids) > _MANY:
            return dict(self._execute(_KNOWN_SOME, (orjson.dumps(ids).decode(),)).fetchall())
        known: dict[str, int] = {}
        for id in ids:
            found = self._execute(_KNOWN, (id,)).fetchall()
            if found:
                known[id] = found[0][0]
        return known

    # state

    def cached(self, space: str) -> Mapping[str, bytes]:
        session = self._session
        found = session.fresh.get(space)
        if found is None:
            if space in session.dirty:
                return MappingProxyType(dict(self.scan(space)))
            found = session.fresh[space] = super().cached(space)
        return found

    def _touch(self, space: str) -> None:
        if space not in self._touched:
            self._session.dirty.add(space)
            self._session.fresh.pop(space, None)
            self._execute(_TOUCH, (space,))
            self._touched = self._touched | {space}

    def put(self, space: str, key: str, value: bytes) -> None:
        self._touch(space)
        self._execute(_PUT, (space, key, value))

    def delete(self, space: str, key: str) -> bool:
        self._touch(space)
        self._execute(_DELETE, (space, key))
        return self._session.changed() > 0

    def clear(self, space: str, prefix: str = "") -> int:
        self._touch(space)
        self._execute(_CLEAR, (space, prefix, beyond(prefix)))
        return self._session.changed()

    # what leaves

    def trim(self, until: int) -> None:
        head = self._session.head
        until = min(until, head)
        self._execute(_TRIM, (until,))
        if self._session.changed():
            self._execute(_META, (head, "floor"))
        self._execute(_META, (until, "trimmed"))

    def erase(self, positions: Iterable[int]) -> int:
        wanted = orjson.dumps(sorted(set(positions))).decode()
        ids = [row[0] for row in self._execute(_ERASED_IDS, (wanted,)).fetchall()]
        self._execute(_ERASE, (wanted,))
        count = self._session.changed()
        self._execute(_ERASE_IDS, (orjson.dumps(ids).decode(),))
        self._execute(_ERASE_SEALED_IDS, (wanted,))
        self._execute(_REMEMBER, (wanted, self._session.head))
        self._execute(_META, (self._session.head, "floor"))
        self._session.scrub = True
        return count
