"""Which files hold which records: immutable, read with one look at the log's state.

State spaces: "segment" (key = id), "column" (key = kind/name), "garbage" (files to delete),
"sealed" (key = last position of a sealed range: how many records it holds).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from ..log import Reader

__all__ = ["Catalog", "Column", "Segment", "load"]


@dataclass(frozen=True, slots=True)
class Column:
    """A property leaf of one type, and the physical column that holds it in every file of the name."""

    path: tuple[str, ...]
    type: str
    column: str
    version: int
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One file. Times are microseconds UTC; `rest` names the properties that occur in the column `rest`
    (None: none, ("*",): too many to list)."""

    id: str
    kind: str
    name: str
    file: str
    rows: int
    first_position: int
    last_position: int
    min_time: int
    max_time: int
    bytes: int
    checksum: str
    columns: frozenset[str]
    rest: tuple[str, ...] | None = None

    def dump(self) -> bytes:
        """As kept in the log's state."""
        return orjson.dumps({**asdict(self), "columns": sorted(self.columns)})

    @staticmethod
    def parse(value: bytes) -> Segment:
        data = orjson.loads(value)
        data["columns"] = frozenset(data["columns"])
        data["rest"] = None if data["rest"] is None else tuple(data["rest"])
        return Segment(**data)


class Catalog:
    """All segments and columns at one moment; records up to `sealed_to` are in them."""

    __slots__ = ("_by_name", "_columns", "generation", "sealed_to", "segments")

    def __init__(
        self,
        generation: int,
        sealed_to: int,
        segments: Iterable[Segment],
        columns: dict[tuple[str, str], tuple[Column, ...]],
    ) -> None:
        self.generation = generation
        self.sealed_to = sealed_to
        self.segments = tuple(segments)
        self._columns = columns
        self._by_name: dict[tuple[str, str], list[Segment]] = {}
        for segment in self.segments:
            self._by_name.setdefault((segment.kind, segment.name), []).append(segment)

    def names(self, kind: str) -> list[str]:
        """The names of a kind that have segments, in order."""
        return sorted(name for found, name in self._by_name if found == kind)

    def of(self, kind: str, name: str) -> list[Segment]:
        """The segments of one name, in order of position."""
        return list(self._by_name.get((kind, name), ()))

    def columns(self, kind: str, name: str) -> tuple[Column, ...]:
        """The columns of one name's properties."""
        return self._columns.get((kind, name), ())

    def select(
        self, kind: str, names: Iterable[str] | None, since: int | None, until: int | None
    ) -> list[Segment]:
        """The segments of a kind (and of these names) that may hold records of [since, until)."""
        wanted = self.names(kind) if names is None else names
        return [
            segment
            for name in wanted
            for segment in self._by_name.get((kind, name), ())
            if (since is None or segment.max_time >= since) and (until is None or segment.min_time < until)
        ]


def load(reader: Reader, generation: int, sealed_to: int) -> Catalog:
    """Read the whole catalog."""
    segments = [Segment.parse(value) for _, value in reader.scan("segment")]
    columns = {}
    for key, value in reader.scan("column"):
        kind, _, name = key.partition("/")
        columns[kind, name] = parse_columns(value)
    return Catalog(generation, sealed_to, segments, columns)


def parse_columns(value: bytes | None) -> tuple[Column, ...]:
    """The columns of a name as kept in the log's state."""
    if value is None:
        return ()
    return tuple(
        Column(tuple(path), type, column, version, first, last)
        for path, type, column, version, first, last in orjson.loads(value)
    )


def dump_columns(columns: Iterable[Column]) -> bytes:
    """The columns of a name for the log's state."""
    rows: list[list[Any]] = [
        [c.path, c.type, c.column, c.version, c.first_seen, c.last_seen] for c in columns
    ]
    return orjson.dumps(rows)
