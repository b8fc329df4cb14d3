"""Questions to one connection. Each is one statement, so it sees one moment even outside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from ..errors import StorageError
from ..record import Stored
from .schema import COLUMNS

__all__ = ["LAST", "PAGE", "Reads", "Spaces", "beyond", "ended", "paged", "stored", "upper"]

HEAD = (
    "select max(ifnull((select max(position) from records), 0), (select value from meta where key = 'floor'))"
)
_TAIL = f"""select {COLUMNS} from records
    where position > max(?, (select value from meta where key = 'trimmed')) and position <= ?
    order by position limit ?"""
_ONE = f"select {COLUMNS} from records where position = ?"
_SOME = f"""select {COLUMNS} from records
    where position in (select value from json_each(?)) order by position"""
_ID = "select position from ids where id = ?"
_BY_POSITION = f"""select ?1 where ?1 between 1 and ({HEAD})
    and not exists (select 1 from erased where position = ?1)
    and ifnull((select id is null from records where position = ?1), 1)
    and (?1 <= (select value from meta where key = 'trimmed')
        or exists (select 1 from records where position = ?1))"""
_VERSION = "select max(version) from records where entity = ?"
_EVENTS = f"""select {COLUMNS} from records
    where entity = ? and version > ? and version <= ? order by version limit ?"""
# The loose index scan: from one entity straight to the next, whatever the number of its events.
_ENTITIES = """with recursive found (entity) as (
    select (select min(entity) from records where entity {from_here} ?1)
    union all
    select (select min(entity) from records where entity > found.entity)
    from found where found.entity < ?2
) select entity from found where entity < ?2 limit ?3"""
_ENTITIES_FROM = _ENTITIES.format(from_here=">=")
_ENTITIES_AFTER = _ENTITIES.format(from_here=">")
_GET = "select value from kv where space = ? and key = ?"
_SCAN_FROM = "select key, value from kv where space = ? and key >= ? and key < ? order by key limit ?"
_SCAN_AFTER = "select key, value from kv where space = ? and key > ? and key < ? order by key limit ?"
_GENERATION = "select generation from spaces where space = ?"
_SPACE = "select key, value, generation from spaces left join kv using (space) where space = ?"

LAST = 2**63 - 1
PAGE = 500
_new = tuple.__new__

Spaces = dict[str, tuple[int, Mapping[str, bytes]]]
"""The small spaces kept in memory, each with the generation that it was read at."""


def stored(rows: Iterable[tuple[Any, ...]]) -> list[Stored]:
    """Rows of `COLUMNS` as what they are."""
    return [_new(Stored, row) for row in rows]


def upper(prefix: str) -> str | None:
    """The least text greater than all that begin so, by code points; None if there is none.

    >>> upper("Order/")
    'Order0'
    """
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            return prefix[:at] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


def beyond(prefix: str) -> str | bytes:
    """What is greater than any text with that prefix, in SQLite's order."""
    return upper(prefix) or b""  # any blob is greater than all text


class Reads:
    """Implements `Reader` over one connection that is used by one thread at a time."""

    __slots__ = ("_execute", "_spaces", "_store_id")

    def __init__(self, execute: Callable[..., Any], spaces: Spaces, store_id: str) -> None:
        self._execute = execute
        self._spaces = spaces
        self._store_id = store_id

    def end(self) -> None:
        """Refuse any further use."""
        self._execute = ended

    def head(self) -> int:
        return self._execute(HEAD).fetchall()[0][0]

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        bounds = (after, LAST if until is None else until, -1 if limit is None else limit)
        return stored(self._execute(_TAIL, bounds))

    def at(self, positions: Iterable[int]) -> list[Stored]:
        wanted = list(positions)
        if len(wanted) == 1:
            return stored(self._execute(_ONE, wanted))
        return stored(self._execute(_SOME, (orjson.dumps(wanted).decode(),))) if wanted else []

    def position_of(self, id: str) -> int | None:
        found = self._execute(_ID, (id,)).fetchall()
        if not found:
            store, _, number = id.rpartition("-")
            if store != self._store_id or not (number.isascii() and number.isdigit() and len(number) < 19):
                return None
            if number[0] == "0":
                return None
            found = self._execute(_BY_POSITION, (int(number),)).fetchall()
        return found[0][0] if found else None

    def entity_version(self, entity: str) -> int:
        return self._execute(_VERSION, (entity,)).fetchall()[0][0] or 0

    def events_page(self, entity: str, after_version: int, until_version: int | None) -> list[Stored]:
        """The next few events of an entity; fewer than `PAGE` are the last."""
        last = LAST if until_version is None else until_version
        return stored(self._execute(_EVENTS, (entity, after_version, last, PAGE)))

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        return paged(self.events_page, entity, after_version, until_version)

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        first = not after or after < prefix
        bounds = (prefix if first else after, beyond(prefix), -1 if limit is None else limit)
        return [row[0] for row in self._execute(_ENTITIES_FROM if first else _ENTITIES_AFTER, bounds)]

    def get(self, space: str, key: str) -> bytes | None:
        found = self._execute(_GET, (space, key)).fetchall()
        return found[0][0] if found else None

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        first = not after or after < prefix
        bounds = (space, prefix if first else after, beyond(prefix), -1 if limit is None else limit)
        return self._execute(_SCAN_FROM if first else _SCAN_AFTER, bounds).fetchall()

    def cached(self, space: str) -> Mapping[str, bytes]:
        found = self._execute(_GENERATION, (space,)).fetchall()
        if not found:
            return _EMPTY
        kept = self._spaces.get(space)
        if kept is not None and kept[0] == found[0][0]:
            return kept[1]
        return self._load(space)

    def _load(self, space: str) -> Mapping[str, bytes]:
        """Read a whole space and remember it with its generation, both of one moment."""
        rows = self._execute(_SPACE, (space,)).fetchall()
        if not rows:
            return _EMPTY
        mapping = MappingProxyType({key: value for key, value, _ in rows if key is not None})
        self._spaces[space] = (rows[0][2], mapping)
        return mapping


def paged(
    page: Callable[[str, int, int | None], list[Stored]],
    entity: str,
    after_version: int,
    until_version: int | None,
) -> Iterator[Stored]:
    """Follow an entity's events page by page, so that nothing is held open between two of them."""
    while True:
        found = page(entity, after_version, until_version)
        yield from found
        if len(found) < PAGE:
            return
        after_version = found[-1].version or 0


def ended(*_: Any) -> Any:
    """Stands in for `execute` once a transaction or snapshot has ended."""
    raise StorageError("this transaction or snapshot has ended: use it inside its `with` block only")


_EMPTY: Mapping[str, bytes] = MappingProxyType({})
