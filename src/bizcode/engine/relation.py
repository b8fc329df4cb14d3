"""The records that a plan selects, as SQL with the typed columns that it needs, sealed and unsealed alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..plan import access, predicates
from ..plan.access import ColumnPiece, JsonPiece, Piece, candidates
from ..plan.condition import Condition
from ..plan.fields import Field
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters, identifier, instant, literal, pointer
from ..record import MEASURE
from ..segments import Segment
from .tail import View

__all__ = ["VALUE", "Column", "Relation", "Source", "build", "key_column", "sources"]

VALUE = Field(("\0value",))
"""The number of a measurement, read like a property."""

_OWNED = ("entity", "version", "user", "id", "type", "position")
_TAIL_VALUE = {"int": "value_int", "double": "value"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a plan needs of each record.

    kind: "position", "timestamp", "user" (merged; with name "raw" as it was written), "name",
    "number" (BIGINT if only integers occur, else
    DOUBLE), "key" (typed if one type occurs, else JSON text; NULL if missing or null), "plain" (the same, and the
    record's own attribute of that name where it has no such property), "text", "flag" (BOOLEAN of a condition), "experiment" (the variant), "exists", "named" (BOOLEAN: it was given an id).
    """

    kind: str
    field: Field | None = None
    condition: Condition | None = None
    name: str | None = None


def key_column(dimension: Dimension) -> Column:
    """The column that records are grouped by; of a time bucket that is the time."""
    if dimension.kind == "bucket":
        return Column("timestamp")
    if dimension.kind == "user":
        return Column("user")
    if dimension.kind == "event":
        return Column("name")
    if dimension.kind == "experiment":
        return Column("experiment", name=dimension.name)
    return Column("key", dimension.field)


@dataclass(frozen=True, slots=True)
class Relation:
    """SQL that yields the columns asked for. `readings` says how "number" and "key" columns are typed:
    "int", "double", "text", "bool" or "mixed" (JSON text)."""

    sql: str
    readings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Records that are read the same way: where they lie, and how a field is found in them."""

    kind: str
    name: str | None
    table: str
    filters: tuple[str, ...]
    piece: Piece
    retracted: frozenset[int]
    unsealed: bool = False
    newest: int | None = None
    """No record of it is later; None: not known."""


class _TailPiece(JsonPiece):
    __slots__ = ()

    def typed(self, path: tuple[str, ...], type: str) -> str:
        if path == VALUE.path:
            return _TAIL_VALUE[type]
        return JsonPiece.typed(self, path, type)


def paths(where: Condition, columns: Iterable[Column]) -> set[tuple[str, ...]]:
    """Every path that a condition and columns read."""
    found = predicates.fields(where)
    for column in columns:
        if column.field is not None:
            found |= set(candidates(column.field.path))
        if column.condition is not None:
            found |= predicates.fields(column.condition)
    return found


def sources(
    session: Any,
    select: Select,
    needed: set[tuple[str, ...]],
    split: bool,
    span: tuple[int, int] | None = None,
) -> list[Source]:
    """The pieces that a selection reads: groups of segments with the same columns, then the tail.
    `split`: one piece per name, because the name itself is asked for. `span`: only positions after the first
    and up to the second."""
    view: View = session.view
    low, high = session.range(select).bounds
    found: list[Source] = []
    groups: dict[Any, list[Segment]] = {}
    for segment in view.catalog.select(select.kind, select.names, low, high):
        if span is not None and (segment.last_position <= span[0] or segment.first_position > span[1]):
            continue
        key = (
            segment.name if split or needed or (select.kind, segment.name) in view.retracted else None,
            frozenset(segment.columns) if needed else None,
            frozenset(segment.rest or ()) if needed else None,
        )
        groups.setdefault(key, []).append(segment)
    for (name, _, _), segments in groups.items():
        found.append(_sealed(session, select.kind, name, segments, needed))
    present = [
        name
        for (kind, name), (_, first, last) in view.names.items()
        if kind == select.kind
        and (select.names is None or name in select.names)
        and (low is None or last >= low)
        and (high is None or first < high)
    ]
    found += [
        _unsealed(session, select, name, needed, view.table, False)
        for name in (present if split or needed else [None] if present else [])
    ]
    if session.pending and span is None:
        names = {row.name for row in session.pending if row.kind == select.kind}
        found += [
            _unsealed(session, select, name, needed, session.pending_table, True)
            for name in (names if select.names is None else names & set(select.names))
        ]
    return found


def _sealed(
    session: Any, kind: str, name: str | None, segments: list[Segment], needed: set[tuple[str, ...]]
) -> Source:
    files = session.files(segments)
    present = segments[0].columns
    columns: dict[tuple[tuple[str, ...], str], str] = {}
    children: dict[tuple[str, ...], list[str]] = {}
    rest: dict[tuple[str, ...], frozenset[str]] = {}
    if name is not None:
        for column in session.view.catalog.columns(kind, name):
            if column.column not in present:
                continue
            columns[column.path, column.type] = column.column
            for depth in range(1, len(column.path)):
                if column.path[:depth] in needed:
                    children.setdefault(column.path[:depth], []).append(column.column)
        top = segments[0].rest or ()
        for path in needed:
            if top and (path[0] in top or "*" in top):
                types: set[str] = set()
                for segment in segments:
                    types |= session.rest_types(segment, path)
                rest[path] = frozenset(types)
    if kind == MEASURE:
        # Whichever of the two a file has; both where ints and floats met.
        for type, column in (("double", "value"), ("int", "value:int")):
            if any(column in segment.columns for segment in segments) or not _lists_value(segments):
                columns[VALUE.path, type] = column
    value = {type: identifier(column) for (path, type), column in columns.items() if path == VALUE.path}
    owns = _owns(session, kind, name, value)
    piece = ColumnPiece(columns, rest, {path: tuple(found) for path, found in children.items()}, owns)
    retracted = session.view.retracted.get((kind, name), frozenset()) if name is not None else frozenset()
    table = (
        f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
        if len(segments) > 1
        else f"read_parquet([{files}], hive_partitioning = false)"
    )
    return Source(kind, name, table, (), piece, retracted, newest=max(s.max_time for s in segments))


def _lists_value(segments: list[Segment]) -> bool:
    return any("value" in segment.columns or "value:int" in segment.columns for segment in segments)


def _unsealed(
    session: Any, select: Select, name: str | None, needed: set[tuple[str, ...]], table: str, pending: bool
) -> Source:
    view: View = session.view
    known = session.tail_types(select.kind, name, [path for path in needed if path != VALUE.path], pending)
    known[VALUE.path] = frozenset(("int", "double"))
    if not pending and name is not None:
        known[VALUE.path] = view.values.get(name, frozenset())
    value = _TAIL_VALUE if select.kind == MEASURE else {}
    piece = _TailPiece(known, "data", _owns(session, select.kind, name, value))
    filters = [f"kind = {literal(select.kind)}"]
    if not pending:
        filters.append(f"position > {view.sealed_to} AND position <= {view.head}")
    if name is not None:
        filters.append(f"name = {literal(name)}")
    elif select.names is not None:
        filters.append(f"name IN ({', '.join(literal(n) for n in select.names)})")
    retracted: frozenset[int] = frozenset()
    for (kind, found), positions in view.retracted.items():
        if kind == select.kind and (name is None or name == found):
            retracted |= positions
    return Source(select.kind, name, table, tuple(filters), piece, retracted, unsealed=True)


def _owns(session: Any, kind: str, name: str | None, value: Mapping[str, str]) -> dict[str, str]:
    """SQL of a record's own attributes; `value` names the columns of a sample's number by their type."""
    store = literal(session.store_id + "-")
    owns = {
        "position": "position",
        "timestamp": "timestamp",
        "id": f"coalesce(id, {store} || position)",
        # Named by its table: in a subquery DuckDB takes a bare "user" for the user of the database.
        "user": session.merged('facts."user"') if session.view.merged else '"user"',
    }
    if name is not None:
        owns["type"] = owns["event"] = literal(name)
    if value:
        owns["value"] = f"coalesce({', '.join(f'CAST({column} AS DOUBLE)' for column in value.values())})"
    if kind == "entity":
        owns["entity"] = "substr(entity, instr(entity, '/') + 1)"
        owns["version"] = "version"
    return owns


def build(
    session: Any,
    select: Select,
    columns: Mapping[str, Column],
    parameters: Parameters,
    positions: str | None = None,
    span: tuple[int, int] | None = None,
) -> Relation:
    """SQL of the selected records with these columns. `positions` names a table that they must be in; `span`
    bounds them: after the first position, up to the second.
    Conditions that need Python are the session's business: `select.where` must be free of them."""
    needed = paths(select.where, columns.values())
    split = _reads_name(select.where) or any(
        column.kind in ("name", "plain")
        or (column.field is not None and column.field.path == ("type",))
        or (column.condition is not None and _reads_name(column.condition))
        for column in columns.values()
    )
    found = sources(session, select, needed, split, span)
    low, high = session.range(select).bounds
    readings = {alias: _reading(column, found) for alias, column in columns.items()}
    merged = session.view.merged and any(_merges(column) for column in columns.values())
    parts = []
    for source in found:
        before = len(parameters.values)
        where = list(source.filters)
        if low is not None:
            where.append(f"timestamp >= {instant(low)}")
        if high is not None and (source.newest is None or source.newest >= high):
            where.append(f"timestamp < {instant(high)}")
        condition = predicates.predicate(select.where, source.piece, parameters)
        if condition != "TRUE":
            where.append(condition)
        if source.retracted:
            gone = ", ".join(map(str, sorted(source.retracted)))
            where.append(f"position NOT IN ({gone})")
        if span is not None:
            where.append(f"position > {int(span[0])} AND position <= {int(span[1])}")
        if positions is not None:
            where.append(f"position IN (SELECT position FROM {positions})")
        shown = ", ".join(
            f"{_expression(column, source, readings[alias], parameters)} AS {identifier(alias)}"
            for alias, column in columns.items()
        )
        text = f"SELECT {shown or '1'} FROM {source.table}" + (" AS facts" if session.view.merged else "")
        parts.append(text + (f" WHERE {' AND '.join(where)}" if where else ""))
        if source.unsealed:
            session.unsealed(parts[-1], dict(enumerate(parameters.values[before:], before + 1)))
    if not parts:
        parts.append(
            "SELECT "
            + (
                ", ".join(
                    f"CAST(NULL AS {_type(c, readings[a])}) AS {identifier(a)}" for a, c in columns.items()
                )
                or "1"
            )
            + " WHERE FALSE"
        )
    sql = " UNION ALL ".join(parts)
    if merged:
        shown = ", ".join(
            f'coalesce(m."user", r.{identifier(alias)}) AS {identifier(alias)}'
            if _merges(column)
            else f"r.{identifier(alias)}"
            for alias, column in columns.items()
        )
        user = next(alias for alias, column in columns.items() if _merges(column))
        sql = f"SELECT {shown} FROM ({sql}) r LEFT JOIN {session.merges} m ON m.alias = r.{identifier(user)}"
    return Relation(sql, readings)


def _merges(column: Column) -> bool:
    return column.kind == "user" and column.name != "raw"


def _reads_name(where: Condition) -> bool:
    return predicates.named(where) or any(
        path in (("event",), ("type",)) for path in predicates.fields(where)
    )


def _reading(column: Column, found: list[Source]) -> str:
    if column.kind not in ("number", "key", "plain") or column.field is None:
        return ""
    if _owned(column):
        return "int" if column.field.path[0] in ("version", "position") else "text"
    types: set[str] = set()
    for source in found:
        types |= access.types(source.piece, column.field)
    if column.kind == "number":
        return "double" if "double" in types or "int" not in types else "int"
    if column.kind == "plain":
        own = "int" if column.field.path == ("position",) else "text"
        return "mixed" if types else own
    return access.one_type(types)


def _owned(column: Column) -> bool:
    """Whether a key is what a record has of its own, like the entity that it is about."""
    field = column.field
    return column.kind == "key" and field is not None and field.own and field.path[0] in _OWNED


def _type(column: Column, reading: str) -> str:
    if column.kind == "position":
        return "BIGINT"
    if column.kind == "timestamp":
        return "TIMESTAMPTZ"
    if column.kind in ("flag", "exists", "named"):
        return "BOOLEAN"
    return {"int": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN"}.get(reading, "VARCHAR")


def _expression(column: Column, source: Source, reading: str, parameters: Parameters) -> str:
    piece = source.piece
    if column.kind in ("position", "timestamp"):
        return column.kind
    if column.kind == "user":
        return '"user"'
    if column.kind == "named":
        return "id IS NOT NULL"
    if column.kind == "name":
        return literal(source.name) if source.name is not None else "name"
    if column.kind == "experiment":
        return f"json_extract_string(experiments, {pointer((column.name or '',))})"
    if column.kind == "flag":
        assert column.condition is not None
        return predicates.predicate(column.condition, piece, parameters)
    assert column.field is not None
    if _owned(column):
        return piece.own(column.field.path[0]) or "NULL"
    if column.kind == "number":
        return access.number(piece, column.field, reading == "int")
    if column.kind == "text":
        return access.text(piece, column.field)
    if column.kind == "exists":
        first, *others = candidates(column.field.path)
        parts = [
            piece.exists(first),
            *(f"({access.absent(piece, first)} AND {piece.exists(p)})" for p in others),
        ]
        return f"({' OR '.join(parts)})"
    if column.kind == "plain":
        own = piece.own(column.field.path[0]) or "NULL"
        if reading != "mixed":
            return own
        found = access.mixed(piece, column.field)
        return f"CASE WHEN {access.absent(piece, column.field.path)} THEN to_json({own}) ELSE {found} END"
    if reading in ("int", "double"):
        return access.number(piece, column.field, reading == "int")
    if reading == "text":
        return access.text(piece, column.field)
    if reading == "bool":
        return access.boolean(piece, column.field)
    return access.mixed(piece, column.field)
