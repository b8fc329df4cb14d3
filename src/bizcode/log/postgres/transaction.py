"""The writing side of one connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import psycopg

from ...errors import Conflict, StorageError
from ...record import Draft
from ..interface import Appended
from ..reads import Spaces, ended, upper
from .layout import COLUMNS
from .reads import Reads
from .server import Connection, Server, lost
from .text import kept

__all__ = ["Gone", "PostgresTransaction", "Session"]

Hook = Callable[[Any, Sequence[Draft]], Sequence[Draft]]

_NAMES = COLUMNS.count(",") + 1
_INSERT = f"insert into records ({COLUMNS}) values ({', '.join(['%s'] * _NAMES)})"
_COPY = f"copy records ({COLUMNS}) from stdin"
_END = "select end_write(%s, %s::bigint, %s)"
_INSERT_ID = "insert into ids values (%s, %s::bigint)"
_COPY_IDS = "copy ids from stdin"
_KNOWN = "select id, position from ids where id = any(%s::text[])"
_VERSIONS = """select e, coalesce((select max(version) from records where entity = e), 0)
    from unnest(%s::text[]) as asked (e)"""
_TOUCH = """insert into spaces values (%s, 1)
    on conflict (space) do update set generation = spaces.generation + 1 returning generation"""
_PUT = """insert into kv values (%s, %s, %s)
    on conflict (space, key) do update set value = excluded.value"""
_DELETE = "delete from kv where space = %s and key = %s"
_CLEAR = """delete from kv where space = %s and key >= %s and (%s::text is null or key < %s::text)"""
_TRIM = """delete from records where entity is null and position <= %s::bigint
    and position > (select trimmed from meta)"""
_FLOOR = "update meta set floor = greatest(floor, %s::bigint)"
_TRIMMED = "update meta set trimmed = greatest(trimmed, %s::bigint)"
_ERASE_IDS = """delete from ids where position = any(%(positions)s::bigint[])
    or id in (select id from records where id is not null and position = any(%(positions)s::bigint[]))"""
_ERASE = "delete from records where position = any(%s::bigint[])"
_REMEMBER = """insert into erased select n from unnest(%s::bigint[]) as given (n)
    where n between 1 and %s::bigint on conflict do nothing"""

_new = tuple.__new__
_MANY = 12
"""From so many rows on they are copied rather than inserted."""


class Gone(Exception):
    """The connection was lost. `serial`: of the commit that was on its way, which may have come to pass;
    None if nothing can have been stored."""

    def __init__(self, error: BaseException, serial: int | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.serial = serial


class Session:
    """The writing connection. Every method is called under the process's write lock.

    Between `begin` and `commit` it holds the store's advisory lock, which the server frees only after the
    commit can be seen: positions are given in the order of commits, and no reader misses one.

    Each commit also counts up this writer's `serial`. If the connection is lost before the answer came, the
    number tells whether the commit took place.
    """

    def __init__(
        self, server: Server, connection: Connection, spaces: Spaces, store_id: str, token: str
    ) -> None:
        self.server = server
        self.connection = connection
        self.spaces = spaces
        self.store_id = store_id
        self.head = 0
        self.serial = 0
        self.generations: dict[str, int] = {}
        self.dirty: set[str] = set()
        """Spaces written to since `begin`."""
        self.failure: StorageError | None = None
        key = server.key("write")
        self._begin = f"begin; select * from begin_write({key}, '{token}')".encode()
        self._end = (token, server.channel)
        self._pending: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """Wait for the lock and look at what may have changed. Raises Gone."""
        self.dirty.clear()
        self.failure = None
        self._pending.clear()
        try:
            cursor = self.connection.execute(self._begin)
            cursor.nextset()
            self.head, self.serial, spaces, generations = cursor.fetchone()  # type: ignore[misc]
            self.generations = dict(zip(spaces or (), generations or (), strict=True))
        except psycopg.Error as error:
            self.rollback()
            if lost(error, self.connection):
                raise Gone(error, None) from error
            raise self.server.fault(error) from error

    def commit(self) -> None:
        """Make it so, for good. Raises Gone if no answer came."""
        if self.failure is not None:
            raise self.failure
        serial = self.serial + 1
        try:
            # What was put off goes with the commit, in one trip to the server.
            with self.connection.pipeline():
                self._send()
                self.connection.execute(_END, (self._end[0], serial, self._end[1]), prepare=True)
                self.connection.execute(b"commit")
        except psycopg.Error as error:
            if lost(error, self.connection):
                raise Gone(error, serial) from error
            raise self.server.fault(error) from error
        self.serial = serial

    def later(self, statement: Any, values: Any) -> None:
        """Execute before the next statement or with the commit: for what has no answer that is waited for."""
        self._pending.append((statement, values))

    def _send(self) -> None:
        for statement, values in self._pending:
            self.connection.execute(statement, values, prepare=values is not None)
        self._pending.clear()

    def rollback(self) -> None:
        """Undo everything since `begin`; a connection that can't is closed."""
        self._pending.clear()
        try:
            if self.connection.closed:
                return
            if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self.connection.execute("rollback")
        except psycopg.Error:
            self.connection.close()

    def run(self, statement: Any, values: Any = ()) -> Any:
        """Execute inside a transaction: after an error it can't be committed any more."""
        try:
            if self._pending:
                with self.connection.pipeline():
                    self._send()
            return self.connection.execute(statement, values)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def copy(self, statement: Any, rows: Iterable[Sequence[Any]]) -> None:
        """Send many rows at once."""
        try:
            self._send()
            with self.connection.cursor().copy(statement) as copy:
                write = copy.write_row
                for row in rows:
                    write(row)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: psycopg.Error) -> BaseException:
        self.failure = self.server.fault(error)
        return Gone(error, None) if lost(error, self.connection) else self.failure


class PostgresTransaction(Reads):
    """Implements `Transaction`; ends with the block that it was made for."""

    __slots__ = ("_guarding", "_hook", "_session", "_touched")

    def __init__(self, session: Session, hook: Hook | None) -> None:
        super().__init__(session.run, session.spaces, session.store_id)
        self._session = session
        self._hook = hook
        self._guarding = False
        self._touched: set[str] = set()

    # records

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        given = len(drafts)
        if self._execute is ended:
            ended()
        if self._hook is not None and not self._guarding:
            self._guarding = True
            try:
                drafts = self._hook(self, drafts)
            finally:
                self._guarding = False
        session = self._session
        rows, ids, answers = self._rows(drafts, session.head)
        if len(rows) < _MANY:
            for row in rows:
                session.later(_INSERT, row)
            for pair in ids.items():
                session.later(_INSERT_ID, pair)
        else:
            session.copy(_COPY, rows)
            if ids:
                session.copy(_COPY_IDS, ids.items())
        if rows:
            session.head = rows[-1][0]
        return answers if len(answers) == given else answers[:given]

    def _rows(
        self, drafts: Sequence[Draft], position: int
    ) -> tuple[list[tuple[Any, ...]], dict[str, int], list[Appended]]:
        """What is to be inserted, and the answers; everything is checked before anything is written."""
        rows: list[tuple[Any, ...]] = []
        answers: list[Appended] = []
        wanted = [kept(id) for draft in drafts if (id := draft[5]) is not None]
        known: dict[str, int] = dict(self._execute(_KNOWN, (wanted,)).fetchall()) if wanted else {}
        ids: dict[str, int] = {}
        versions = self._versions({kept(entity) for draft in drafts if (entity := draft[6]) is not None})
        for kind, name, time, data, user, id, entity, value, experiments, expect in drafts:
            if id is not None:
                id = kept(id)
                found = known.get(id)
                if found is not None:
                    answers.append(_new(Appended, (found, None, None, True)))
                    continue
                known[id] = ids[id] = position + 1
            version = None
            if entity is not None:
                shown, entity = entity, kept(entity)
                version = versions[entity]
                if expect is not None and expect != version:
                    raise Conflict(
                        f"{shown} is at version {version}, not at the expected {expect}: another writer "
                        f"got there first"
                    )
                versions[entity] = version = version + 1
            position += 1
            whole, real = (value, None) if type(value) is int else (None, value)
            user = user if user is None else kept(user)
            rows.append(
                (position, kind, kept(name), time, kept(data), user, id, entity, version, whole, real,
                 experiments if experiments is None else kept(experiments))
            )  # fmt: skip
            answers.append(_new(Appended, (position, version, experiments, False)))
        return rows, ids, answers

    def _versions(self, entities: set[str]) -> dict[str, int]:
        """The newest versions of entities, named as they are stored."""
        return dict(self._execute(_VERSIONS, (list(entities),)).fetchall()) if entities else {}

    # state

    def cached(self, space: str) -> Mapping[str, bytes]:
        if self._execute is ended:
            ended()
        if space in self._session.dirty:
            return MappingProxyType(dict(self.scan(space)))
        return self._cached(space, self._session.generations.get(kept(space)))

    def _touch(self, space: str) -> None:
        if space not in self._touched:
            self._execute(_TOUCH, (kept(space),))
            self._session.dirty.add(space)
            self._touched.add(space)

    def put(self, space: str, key: str, value: bytes) -> None:
        self._touch(space)
        self._execute(_PUT, (kept(space), kept(key), value))

    def delete(self, space: str, key: str) -> bool:
        self._touch(space)
        return self._execute(_DELETE, (kept(space), kept(key))).rowcount > 0

    def clear(self, space: str, prefix: str = "") -> int:
        self._touch(space)
        until = upper(kept(prefix))
        return self._execute(_CLEAR, (kept(space), kept(prefix), until, until)).rowcount

    # what leaves

    def trim(self, until: int) -> None:
        head = self._session.head
        until = min(until, head)
        if self._execute(_TRIM, (until,)).rowcount:
            self._execute(_FLOOR, (head,))
        self._execute(_TRIMMED, (until,))

    def erase(self, positions: Iterable[int]) -> int:
        wanted = sorted(set(positions))
        self._execute(_ERASE_IDS, {"positions": wanted})
        count = self._execute(_ERASE, (wanted,)).rowcount
        self._execute(_REMEMBER, (wanted, self._session.head))
        self._execute(_FLOOR, (self._session.head,))
        return count
