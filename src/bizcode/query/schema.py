"""What has been seen of a name: its properties, their types, since when, and the versions of its shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .. import when
from ..engine import Engine

__all__ = ["Schema", "SchemaProperty", "names", "schema"]


@dataclass(frozen=True, slots=True)
class SchemaProperty:
    """One property: `types` are of "text", "int", "double", "bool", "list", "object", "null"."""

    name: str
    types: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of one name's records. `version` counts the shapes that it has had."""

    name: str
    version: int
    properties: dict[str, SchemaProperty]
    versions: tuple[tuple[str, ...], ...] = ()
    """For each version the properties (with type) that it added."""

    def __getitem__(self, name: str) -> SchemaProperty:
        return self.properties[name]

    def __iter__(self):
        return iter(self.properties)

    def __len__(self) -> int:
        return len(self.properties)

    def __contains__(self, name: object) -> bool:
        return name in self.properties


_SHOWN = {
    "BIGINT": "int",
    "UBIGINT": "int",
    "DOUBLE": "double",
    "VARCHAR": "text",
    "BOOLEAN": "bool",
    "ARRAY": "list",
    "OBJECT": "object",
    "NULL": "null",
}


def names(engine: Engine, kind: str) -> list[str]:
    """The names of a kind's records, in alphabetical order; those whose records are all retracted left out."""
    with engine.session() as session:
        counts: dict[str, int] = {}
        for segment in session.view.catalog.select(kind, None, None, None):
            counts[segment.name] = counts.get(segment.name, 0) + segment.rows
        for (found, name), (rows, _, _) in session.view.names.items():
            if found == kind:
                counts[name] = counts.get(name, 0) + rows
        for row in session.pending:
            if row.kind == kind:
                counts[row.name] = counts.get(row.name, 0) + 1
        gone = {name: len(found) for (k, name), found in session.view.retracted.items() if k == kind}
        return sorted(name for name, rows in counts.items() if rows > gone.get(name, 0))


def schema(engine: Engine, kind: str, name: str) -> Schema:
    """The properties seen in a name's records, sealed and unsealed. Costs the catalog and the tail."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with engine.session() as session:
        for path, type, first, last in engine.segments.seen(kind, name, session.view.catalog):
            shown = {"json": "list"}.get(type, type) if len(path) == 1 else "object"
            _add(found, path[0], shown, first, last)
        _tail(session, kind, name, found)
    properties = {}
    order: list[tuple[int, str]] = []
    for key, types in found.items():
        order += [(first, f"{key}: {type}") for type, (first, _) in types.items()]
    order.sort()
    moments = sorted({first for first, _ in order})
    versions = tuple(tuple(text for first, text in order if first == moment) for moment in moments)
    for key, types in sorted(found.items()):
        first = min(low for low, _ in types.values())
        last = max(high for _, high in types.values())
        properties[key] = SchemaProperty(
            key,
            tuple(sorted(types)),
            when.to_datetime(first),
            when.to_datetime(last),
            moments.index(max(low for low, _ in types.values())) + 1,
        )
    return Schema(name, len(moments), properties, versions)


def _add(found: dict[str, dict[str, tuple[int, int]]], key: str, type: str, first: int, last: int) -> None:
    types = found.setdefault(key, {})
    low, high = types.get(type, (first, last))
    types[type] = (min(low, first), max(high, last))


def _tail(session: Any, kind: str, name: str, found: dict[str, dict[str, tuple[int, int]]]) -> None:
    view = session.view
    tables = [(view.table, f" AND position > {view.sealed_to} AND position <= {view.head}")]
    if session.pending:
        tables.append((session.pending_table, ""))
    for table, extra in tables:
        inner = (
            f"SELECT epoch_us(t.timestamp) AS moment, e.key, e.value FROM {table} t, json_each(t.data) e "
            f"WHERE t.kind = $1 AND t.name = $2{extra}"
        )
        sql = f"SELECT key, json_type(value), min(moment), max(moment) FROM ({inner}) GROUP BY ALL"
        for key, type, low, high in session.cursor.execute(sql, [kind, name]).fetchall():
            _add(found, key, _SHOWN[type], low, high)
