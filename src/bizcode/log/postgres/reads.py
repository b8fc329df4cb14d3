"""Questions to one connection. Each is one statement, so it sees one moment even outside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ...record import Stored
from ..reads import LAST, PAGE, Spaces, ended, paged, upper
from .layout import COLUMNS, HEAD
from .text import given, kept

__all__ = ["Reads"]

_HEAD = f"select {HEAD}"
_TAIL = f"""select {COLUMNS} from records
    where position > greatest(%s::bigint, (select trimmed from meta)) and position <= %s::bigint
    order by position limit %s::bigint"""
_RAW = f"select {COLUMNS} from records where position > %s::bigint order by position limit %s::bigint"
_ONE = f"select {COLUMNS} from records where position = %s::bigint"
_SOME = f"select {COLUMNS} from records where position = any(%s::bigint[]) order by position"
_ID = "select position from ids where id = %s"
_BY_POSITION = f"""with asked (n) as (values (%s::bigint))
    select n from asked where n between 1 and {HEAD}
    and not exists (select 1 from erased where position = n)
    and coalesce((select id is null from records where position = n), true)
    and (n <= (select trimmed from meta) or exists (select 1 from records where position = n))"""
_VERSION = "select max(version) from records where entity = %s"
_EVENTS = f"""select {COLUMNS} from records
    where entity = %s and version > %s::bigint and version <= %s::bigint order by version limit %s::bigint"""
# The loose index scan: from one entity straight to the next, whatever the number of its events.
_ENTITIES = """with recursive found (entity) as (
    select (select min(entity) from records where entity {comparison} %(start)s)
    union all
    select (select min(entity) from records where entity > found.entity)
    from found where found.entity is not null {bound}
) select entity from found where entity is not null {bound} limit %(limit)s::bigint"""
_GET = "select value from kv where space = %s and key = %s"
_SCAN = """select key, value from kv where space = %(space)s and key {comparison} %(start)s
    {bound} order by key limit %(limit)s::bigint"""
_GENERATION = "select generation from spaces where space = %s"
_SPACE = """select key, value, generation from spaces left join kv using (space) where space = %s"""

_new = tuple.__new__
_EMPTY: Mapping[str, bytes] = MappingProxyType({})

Execute = Callable[..., Any]


def _stored(rows: Iterable[Sequence[Any]]) -> list[Stored]:
    """Rows of `COLUMNS` as what they are."""
    found = []
    for position, kind, name, time, data, user, id, entity, version, whole, value, experiments in rows:
        if "\x01" in data:
            data = given(data)
        found.append(
            _new(
                Stored,
                (
                    position,
                    kind,
                    given(name),
                    time,
                    data,
                    user if user is None else given(user),
                    id if id is None else given(id),
                    entity if entity is None else given(entity),
                    version,
                    value if whole is None else whole,
                    experiments if experiments is None else given(experiments),
                ),
            )
        )
    return found


class Reads:
    """Implements `Reader` over one connection that is used by one thread at a time."""

    __slots__ = ("_execute", "_spaces", "_store_id")

    def __init__(self, execute: Execute, spaces: Spaces, store_id: str) -> None:
        self._execute = execute
        self._spaces = spaces
        self._store_id = store_id

    def end(self) -> None:
        """Refuse any further use."""
        self._execute = ended

    def head(self) -> int:
        return self._execute(_HEAD).fetchone()[0]

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        return _stored(self._execute(_TAIL, (after, LAST if until is None else until, limit)).fetchall())

    def raw(self, after: int, limit: int) -> list[Stored]:
        """Every record that the table holds, sealed entity events among them."""
        return _stored(self._execute(_RAW, (after, limit)).fetchall())

    def at(self, positions: Iterable[int]) -> list[Stored]:
        wanted = list(positions)
        if len(wanted) == 1:
            return _stored(self._execute(_ONE, wanted).fetchall())
        return _stored(self._execute(_SOME, (wanted,)).fetchall()) if wanted else []

    def position_of(self, id: str) -> int | None:
        found = self._execute(_ID, (kept(id),)).fetchone()
        if found is None:
            store, _, number = id.rpartition("-")
            if store != self._store_id or not (number.isascii() and number.isdigit() and len(number) < 19):
                return None
            if number[0] == "0":
                return None
            found = self._execute(_BY_POSITION, (int(number),)).fetchone()
        return found[0] if found else None

    def entity_version(self, entity: str) -> int:
        return self._execute(_VERSION, (kept(entity),)).fetchone()[0] or 0

    def events_page(self, entity: str, after_version: int, until_version: int | None) -> list[Stored]:
        """The next few events of an entity; fewer than `PAGE` are the last."""
        last = LAST if until_version is None else until_version
        return _stored(self._execute(_EVENTS, (kept(entity), after_version, last, PAGE)).fetchall())

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        return paged(self.events_page, entity, after_version, until_version)

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        statement, bounds = _ranged(_ENTITIES, "found.entity", prefix, after)
        found = self._execute(statement, {**bounds, "limit": limit}).fetchall()
        return [given(row[0]) for row in found]

    def get(self, space: str, key: str) -> bytes | None:
        found = self._execute(_GET, (kept(space), kept(key))).fetchone()
        return found[0] if found else None

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        statement, bounds = _ranged(_SCAN, "key", prefix, after)
        found = self._execute(statement, {**bounds, "space": kept(space), "limit": limit}).fetchall()
        return [(given(key), value) for key, value in found]

    def cached(self, space: str) -> Mapping[str, bytes]:
        found = self._execute(_GENERATION, (kept(space),)).fetchone()
        return self._cached(space, None if found is None else found[0])

    def _cached(self, space: str, generation: int | None) -> Mapping[str, bytes]:
        """The space as of a generation, which is the present one."""
        if generation is None:
            return _EMPTY
        known = self._spaces.get(space)
        if known is not None and known[0] == generation:
            return known[1]
        # Read with its generation, both of one moment.
        rows = self._execute(_SPACE, (kept(space),)).fetchall()
        if not rows:
            return _EMPTY
        mapping = MappingProxyType({given(key): value for key, value, _ in rows if key is not None})
        self._spaces[space] = (rows[0][2], mapping)
        return mapping


def _ranged(statement: str, column: str, prefix: str, after: str) -> tuple[str, dict[str, Any]]:
    """A statement over what begins with the prefix and is greater than `after`."""
    first = not after or after < prefix
    until = upper(kept(prefix))
    bound = "" if until is None else f"and {column} < %(until)s"
    bounds = {"start": kept(prefix if first else after), "until": until}
    return statement.format(comparison=">=" if first else ">", bound=bound), bounds
