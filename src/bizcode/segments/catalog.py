"""Which files hold the sealed history: an immutable snapshot of what the log says.

Spaces of the log's state: "segment" (one entry per file), "sealed" (key "state": how far, which generation
of the catalog, which epoch of readers), "sealed-range" (how many records each seal took).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from ..log import Reader, Transaction
from . import schema
from .schema import Column, Schema

__all__ = ["RANGES", "SEGMENTS", "Catalog", "Segment", "State", "load"]

SEGMENTS = "segment"
RANGES = "sealed-range"
_STATE = ("sealed", "state")
FORMAT = 1


class State(NamedTuple):
    """What every reader asks first. `to`: sealed up to this position; `generation`: moves with each change
    of the catalog; `epoch`: see readers.py."""

    to: int = 0
    generation: int = 0
    epoch: int = 0

    @classmethod
    def read(cls, reader: Reader) -> State:
        value = reader.get(*_STATE)
        return cls() if value is None else cls(*orjson.loads(value))

    def write(self, tx: Transaction) -> None:
        tx.put(*_STATE, orjson.dumps([self.to, self.generation, self.epoch]))


@dataclass(frozen=True, slots=True)
class Segment:
    """One Parquet file of the sealed history.

    `file` is relative to the store's directory. Times are microseconds since 1970 UTC. `columns` are the
    physical property columns that the file has (and "value", "value:int" of measurements). `rest` lists the
    top-level properties that occur in the column "rest": None if there is no such column, ("*",) if they are
    too many to list. `users`: whether any record has a user.
    """

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
    rest: tuple[str, ...] | None
    users: bool

    def to_json(self, schema: Schema) -> bytes:
        numbers = {column.column: column.number for column in schema.columns}
        return orjson.dumps(
            [
                FORMAT,
                self.kind,
                self.name,
                self.file,
                self.rows,
                self.first_position,
                self.last_position,
                self.min_time,
                self.max_time,
                self.bytes,
                self.checksum,
                sorted((numbers.get(column, column) for column in self.columns), key=str),
                self.rest,
                self.users,
            ]
        )


def _segment(id: str, value: bytes, schemas: dict[tuple[str, str], Schema]) -> Segment:
    _, kind, name, *plain, columns, rest, users = orjson.loads(value)
    known = schemas.get((kind, name))
    names = {column.number: column.column for column in known.columns} if known else {}
    present = frozenset(names[c] if isinstance(c, int) else c for c in columns)
    fields: list[Any] = [id, kind, name, *plain, present, None if rest is None else tuple(rest), users]
    return Segment(*fields)


class Catalog:
    """An immutable snapshot of the sealed history: up to which position, in which files, with which columns."""

    def __init__(
        self, state: State, segments: dict[str, Segment], schemas: dict[tuple[str, str], Schema]
    ) -> None:
        self.state = state
        self.sealed_to = state.to
        self.generation = state.generation
        self.by_id = segments
        self.segments: tuple[Segment, ...] = tuple(
            sorted(segments.values(), key=lambda s: (s.kind, s.name, s.first_position))
        )
        self._schemas = schemas
        self._of: dict[str, dict[str, list[Segment]]] = {}
        for segment in self.segments:
            self._of.setdefault(segment.kind, {}).setdefault(segment.name, []).append(segment)
        self._raw: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})

    def names(self, kind: str) -> list[str]:
        """The names of a kind that have sealed records, in order."""
        return list(self._of.get(kind, ()))

    def of(self, kind: str, name: str) -> list[Segment]:
        """A name's segments in order of position."""
        return list(self._of.get(kind, {}).get(name, ()))

    def schema(self, kind: str, name: str) -> Schema:
        """A name's columns; without any if nothing of it was sealed."""
        return self._schemas.get((kind, name)) or Schema(kind, name)

    def columns(self, kind: str, name: str) -> tuple[Column, ...]:
        """The leaf columns that files of a name may have."""
        return self.schema(kind, name).columns

    def select(
        self,
        kind: str | None = None,
        names: Iterable[str] | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Segment]:
        """The segments that may hold records of the kind and names with since <= time < until."""
        found: list[Segment] = []
        for this, by_name in self._of.items():
            if kind is not None and this != kind:
                continue
            for name in by_name if names is None else dict.fromkeys(names):
                found += [
                    segment
                    for segment in by_name.get(name, ())
                    if (since is None or segment.max_time >= since)
                    and (until is None or segment.min_time < until)
                ]
        return found


def load(reader: Reader, state: State, previous: Catalog | None = None) -> Catalog:
    """The catalog as the reader sees it; what has not changed since `previous` is taken over."""
    raw_schemas = dict(reader.scan(schema.SPACE))
    raw_segments = dict(reader.scan(SEGMENTS))
    old_segments, old_schemas = previous._raw if previous else ({}, {})
    schemas: dict[tuple[str, str], Schema] = {}
    for key, value in raw_schemas.items():
        kind, _, name = key.partition("/")
        if previous and old_schemas.get(key) == value:
            schemas[kind, name] = previous._schemas[kind, name]
        else:
            schemas[kind, name] = Schema.from_json(value)
    segments: dict[str, Segment] = {}
    for id, value in raw_segments.items():
        if previous and old_segments.get(id) == value:
            segments[id] = previous.by_id[id]
        else:
            segments[id] = _segment(id, value, schemas)
    catalog = Catalog(state, segments, schemas)
    catalog._raw = (raw_segments, raw_schemas)
    return catalog
