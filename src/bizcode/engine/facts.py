"""What engines want to know of sealed files beyond the catalog. A file never changes, so each is asked once in a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..plan.sql import literal
from ..record import EVENT
from ..segments import Segment
from . import tail

if TYPE_CHECKING:
    from .engine import Session

__all__ = ["HASH", "Facts"]

HASH = "hash(u)"

MOST_NAMES = 2_000_000
"""Of so many users the names are kept at hand, some 50 bytes each."""

_Place = tuple[str, tuple[str, ...]]


class Facts:
    """The facts of one store's files.

    Args:
        connection: a cursor of its own.
        schema: where its table goes.
    """

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._rest: dict[_Place, frozenset[str]] = {}
        self._milliseconds: dict[str, bool] = {}
        self._names = f"{schema}.names"
        self._lock = threading.Lock()
        self._forget_names()

    def rest_types(self, session: Session, segment: Segment, path: tuple[str, ...]) -> frozenset[str]:
        """The JSON types at a path of a segment's `rest`."""
        key = (segment.file, path)
        known = self._rest.get(key)
        if known is None:
            found = tail.probe(
                session.cursor, _read(session, [segment]), [path], "rest IS NOT NULL", [], "rest"
            )
            types = frozenset("json" if type == "object" else type for type in found[path])
            known = self._rest[key] = types
        return known

    def whole_milliseconds(self, session: Session, names: Sequence[str] | None) -> bool:
        """Whether all times of these events are whole milliseconds."""
        segments = session.view.catalog.select(EVENT, names, None, None)
        sql = "SELECT coalesce(bool_and(epoch_us(timestamp) % 1000 = 0), TRUE) FROM "
        for segment in segments:
            if segment.file not in self._milliseconds:
                row = session.cursor.execute(sql + _read(session, [segment])).fetchone()
                self._milliseconds[segment.file] = row[0]
        if not all(self._milliseconds[segment.file] for segment in segments):
            return False
        if any(row.time % 1000 for row in session.pending if row.kind == EVENT):
            return False
        view = session.view
        where = f"kind = {literal(EVENT)} AND position > {view.sealed_to} AND position <= {view.head}"
        if names is not None:
            where += f" AND name IN ({', '.join(map(literal, names)) or 'NULL'})"
        return session.cursor.execute(f"{sql}{view.table} WHERE {where}").fetchone()[0]

    # users by the hash of their names

    def hash_tells_users_apart(self, session: Session, names: Sequence[str] | None) -> bool:
        """Whether no two users of these events, by their names or those that they count under, share a hash. False
        too where there are more than are kept at hand."""
        with self._lock:
            if self._erased != session.view.erased:
                self._forget_names()
                self._erased = session.view.erased
            if self._many or self._shared:
                return False
            segments = session.view.catalog.select(EVENT, names, None, None)
            self._take_files(session, [s for s in segments if s.users and s.file not in self._files])
            self._take_rows(session)
            return not (self._many or self._shared)

    def _forget_names(self) -> None:
        self._connection.execute(f"CREATE OR REPLACE TABLE {self._names} (h UBIGINT, u VARCHAR)")
        self._files: set[str] = set()
        self._since = self._until = self._count = 0
        self._merged = (0, 0)
        self._erased = b""
        self._shared = self._many = False

    def _take_files(self, session: Session, segments: list[Segment]) -> None:
        for segment in segments:
            self._take(self._connection, f'SELECT "user" AS u FROM {_read(session, [segment])}')
            self._files.add(segment.file)

    def _take_rows(self, session: Session) -> None:
        """The names that no file has."""
        view = session.view
        if not self._since <= view.sealed_to <= self._until:
            # Rows that were not looked at lie between, or an older moment has some that are in files since.
            self._since = self._until = view.sealed_to
        if view.head > self._until:
            between = f"position > {self._until} AND position <= {view.head}"
            self._take(self._connection, f'SELECT "user" AS u FROM {view.table} WHERE {between}')
            self._until = view.head
        if view.identity != self._merged:
            # A transaction's own merges lie with its cursor.
            cursor = session.cursor if session.pending else self._connection
            self._take(cursor, f'SELECT "user" AS u FROM {session.merges}')
            self._merged = view.identity
        if session.pending:
            self._take(session.cursor, f'SELECT "user" AS u FROM {session.pending_table}')

    def _take(self, cursor: Any, users: str) -> None:
        """Note the names that aren't known yet."""
        if self._many or self._shared:
            return  # the names are gone: what comes now can't be compared with them
        found = f"SELECT {HASH} AS h, u FROM ({users}) WHERE u IS NOT NULL GROUP BY u"
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE more AS SELECT * FROM ({found}) ANTI JOIN {self._names} USING (h, u)"
        )
        count, hashes = cursor.execute("SELECT count(*), count(DISTINCT h) FROM more").fetchone()
        if not count:
            return
        known = cursor.execute(f"SELECT count(*) FROM more SEMI JOIN {self._names} USING (h)").fetchone()[0]
        self._count += count
        self._shared = known > 0 or hashes < count
        self._many = self._count > MOST_NAMES
        if self._many or self._shared:
            cursor.execute(f"DELETE FROM {self._names}")
        else:
            cursor.execute(f"INSERT INTO {self._names} SELECT * FROM more")
        cursor.execute("DROP TABLE more")


def _read(session: Session, segments: Sequence[Segment]) -> str:
    return f"read_parquet([{session.at_hand(segments)}], hive_partitioning = false)"
