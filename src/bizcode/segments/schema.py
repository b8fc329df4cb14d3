"""What columns the files of one name have: fixed ones, then one per leaf, named once and for all.

Kept in the state space "column" under "<kind>/<name>".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from ..record import ENTITY, EVENT, MEASURE, SYSTEM
from .leaves import Leaf, Path

__all__ = ["COLUMNS", "FIXED", "REST", "SPACE", "Column", "Schema", "Seen"]

SPACE = "column"
COLUMNS = 1_000
"""Leaves of one name beyond this many get no column and stay in the rest."""

REST = "rest"
_COMMON = ("position", "timestamp", "id", "user", "experiments")
FIXED: dict[str, tuple[str, ...]] = {
    EVENT: (*_COMMON, REST),
    MEASURE: (*_COMMON, "value", "value:int", REST),
    ENTITY: (*_COMMON, "entity", "version", REST),
    SYSTEM: (*_COMMON, "entity", "version", "value", "value:int", REST),
}
"""The columns that no property can have, by kind of record."""


@dataclass(frozen=True, slots=True)
class Column:
    """One leaf's column. `version` is the schema's version that brought it; `first_seen` and `last_seen`
    are times of records, in microseconds since 1970 UTC. `number` stands for it in the catalog."""

    path: Path
    type: str
    column: str
    version: int
    first_seen: int
    last_seen: int
    number: int


class Seen(NamedTuple):
    """Something without a column that was seen under a top-level property: type "null", "object", or a
    leaf's type past the limit of columns."""

    key: str
    type: str
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one name's files, in the order in which they were first seen."""

    kind: str
    name: str
    version: int = 0
    columns: tuple[Column, ...] = ()
    seen: tuple[Seen, ...] = ()
    next: int = 0

    @property
    def key(self) -> str:
        """The key in the state space."""
        return f"{self.kind}/{self.name}"

    def versions(self) -> list[tuple[Column, ...]]:
        """For each version the columns that it added."""
        return [tuple(c for c in self.columns if c.version == v) for v in range(1, self.version + 1)]

    def by_leaf(self) -> dict[Leaf, Column]:
        return {(column.path, column.type): column for column in self.columns}

    def grow(self, leaves: Iterable[tuple[Leaf, int, int]], seen: Iterable[Seen] = ()) -> Schema:
        """The schema after records with these leaves, each with the lowest and highest time it was seen at.
        New leaves get columns as long as there is room."""
        known = self.by_leaf()
        taken = {column.column.casefold() for column in self.columns} | set(FIXED[self.kind])
        plain = {column.path for column in self.columns}
        version, number = self.version, self.next
        for leaf, first, last in leaves:
            column = known.get(leaf)
            if column is not None:
                if first < column.first_seen or last > column.last_seen:
                    known[leaf] = replace(
                        column,
                        first_seen=min(first, column.first_seen),
                        last_seen=max(last, column.last_seen),
                    )
                continue
            if len(known) >= COLUMNS:
                continue
            path, type = leaf
            version = self.version + 1
            name = _name(path, type, path in plain, taken)
            taken.add(name.casefold())
            plain.add(path)
            known[leaf] = Column(path, type, name, version, first, last, number)
            number += 1
        return replace(
            self, version=version, columns=tuple(known.values()), seen=_merged(self.seen, seen), next=number
        )

    def keep(self, columns: frozenset[str], rest: frozenset[str] | None) -> Schema:
        """The schema with these columns only, and of what has no column only these keys (None: all)."""
        return replace(
            self,
            columns=tuple(c for c in self.columns if c.column in columns),
            seen=self.seen if rest is None else tuple(s for s in self.seen if s.key in rest),
        )

    def to_json(self) -> bytes:
        columns = [
            [c.path, c.type, c.column, c.version, c.first_seen, c.last_seen, c.number] for c in self.columns
        ]
        seen = [[s.key, s.type, s.first_seen, s.last_seen] for s in self.seen]
        return orjson.dumps(
            {
                "kind": self.kind,
                "name": self.name,
                "version": self.version,
                "columns": columns,
                "seen": seen,
                "next": self.next,
            }
        )

    @classmethod
    def from_json(cls, value: bytes) -> Schema:
        held: dict[str, Any] = orjson.loads(value)
        return cls(
            held["kind"],
            held["name"],
            held["version"],
            tuple(Column(tuple(path), *rest) for path, *rest in held["columns"]),
            tuple(Seen(*seen) for seen in held["seen"]),
            held["next"],
        )


def _name(path: Path, type: str, again: bool, taken: set[str]) -> str:
    """A column's name: the dotted path, with the type where the path has a column already, with a number
    where the name is taken. Names are compared as engines do, without regard to case."""
    name = "".join(c if c.isprintable() else "?" for c in ".".join(path))[:200] or "~"
    if again:
        name = f"{name}:{type}"
    unique, n = name, 1
    while unique.casefold() in taken:
        n += 1
        unique = f"{name}~{n}"
    return unique


def _merged(old: tuple[Seen, ...], new: Iterable[Seen]) -> tuple[Seen, ...]:
    found = {(s.key, s.type): s for s in old}
    for s in new:
        known = found.get((s.key, s.type))
        if known is not None:
            s = s._replace(
                first_seen=min(s.first_seen, known.first_seen), last_seen=max(s.last_seen, known.last_seen)
            )
        elif len(found) >= COLUMNS:
            continue
        found[s.key, s.type] = s
    return tuple(found.values())
