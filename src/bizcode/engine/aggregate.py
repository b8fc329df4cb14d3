"""One number, or one per group: compile, run, order, fill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..errors import InvalidQuery
from ..plan.rollup import DEFINED
from ..plan.select import Aggregate, Dimension
from ..plan.sql import Parameters
from ..record import MEASURE
from . import buckets
from .engine import Session
from .groups import ListText, apart, by_key, mapping
from .relation import VALUE, Column, Relation, key_column

if TYPE_CHECKING:
    from .levels import Levels

__all__ = ["aggregate", "compile_aggregate", "decode", "extent", "rolled_up"]

EXACT_ROWS = 500_000
"""Up to so many rows sums are compensated (Kahan): the last digit doesn't depend on the order."""

_ZERO = frozenset(("count", "sum", "unique"))


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement and how to read its rows: keys first, then the value."""

    sql: str
    parameters: Parameters
    relation: Relation
    low: int | None
    high: int | None
    cut: bool = False
    """Whether it gives the groups from `offset` to `limit` only."""


def extent(session: Session, query: Aggregate) -> tuple[int, int]:
    """The lowest and highest time that the selection's records can have, from statistics alone."""
    select = query.select
    low, high = session.range(select).bounds
    lows: list[int] = []
    highs: list[int] = []
    for segment in session.view.catalog.select(select.kind, select.names, low, high):
        lows.append(segment.min_time)
        highs.append(segment.max_time)
    for (kind, name), (_, first, last) in session.view.names.items():
        if kind == select.kind and (select.names is None or name in select.names):
            lows.append(first)
            highs.append(last)
    for row in session.pending:
        lows.append(row.time)
        highs.append(row.time)
    first = low if low is not None else min(lows, default=session.now)
    last = high if high is not None else max([*highs, session.now])
    return first, max(first, last)


def compile_aggregate(session: Session, query: Aggregate) -> Compiled:
    """The SQL of an aggregate. Pure, but for a look at the catalog and at what types occur."""
    columns: dict[str, Column] = {}
    low, high = extent(session, query)
    for n, dimension in enumerate(query.by):
        columns[f"k{n}"] = key_column(dimension)
    operation = query.operation
    field = query.field
    if field is None and query.select.kind == MEASURE and operation not in ("count", "unique"):
        field = VALUE
    if operation == "unique":
        columns["x"] = Column("user") if field is None else Column("key", field)
    elif operation in ("min", "max") and field is not None and field is not VALUE:
        columns["x"] = Column("key", field)
        columns["n"] = Column("number", field)
    elif field is not None:
        columns["x"] = Column("number", field)
    elif operation not in ("count", "rate"):
        raise InvalidQuery(f"{operation}() needs the name of a property")
    if operation in ("first", "last", "current"):
        columns["position"] = Column("position")
        columns["moment"] = Column("timestamp")
    if any(d.kind == "bucket" for d in query.by):
        columns["moment"] = Column("timestamp")
    parameters = Parameters()
    relation = session.relation(query.select, columns, parameters)
    keys = []
    for n, dimension in enumerate(query.by):
        if dimension.kind == "bucket":
            keys.append(buckets.expression("moment", dimension.name, session.tz, low, high))
        else:
            keys.append(f"k{n}")
    value = _value(session, query, relation)
    shown = ", ".join([*(f"{key} AS g{n}" for n, key in enumerate(keys)), f"{value} AS value"])
    sql = f"SELECT {shown} FROM ({relation.sql})"
    cut = False
    if keys:
        sql += f" GROUP BY {', '.join(f'g{n}' for n in range(len(keys)))}"
        if query.bucket is None:
            names = ", ".join(f"g{n} ASC NULLS LAST" for n in range(len(keys)))
            sql += f" ORDER BY value DESC NULLS LAST, {names}"
            # Among keys of several types one may be told from another by its text: all of them are needed.
            cut = not any(relation.readings.get(f"k{n}") == "mixed" for n in range(len(keys)))
            if cut and query.limit is not None:
                sql += f" LIMIT {int(query.limit)}"
            if cut and query.offset:
                sql += f" OFFSET {int(query.offset)}"
    return Compiled(sql, parameters, relation, low, high, cut)


def _value(session: Session, query: Aggregate, relation: Relation) -> str:
    operation = query.operation
    if operation == "count":
        return "count(*)"
    if operation == "unique":
        return "count(DISTINCT x)"
    if operation == "sum":
        return _sum(session, query, relation)
    if operation in ("min", "max"):
        reading = relation.readings.get("x", "double")
        if reading in ("int", "double", "text") or "n" not in relation.readings:
            return f"{operation}(x)"
        return f"{operation}(n)"
    if operation == "avg":
        return "avg(x)"
    if operation == "median":
        return "quantile_cont(CAST(x AS DOUBLE), 0.5)"
    if operation == "percentile":
        return f"quantile_cont(CAST(x AS DOUBLE), {float(query.argument) / 100!r})"
    if operation == "stddev":
        return "stddev_samp(CAST(x AS DOUBLE))"
    if operation == "first":
        return "arg_min(x, (moment, position))"
    if operation in ("last", "current"):
        return "arg_max(x, (moment, position))"
    if operation == "rate":
        return _sum(session, query, relation) if query.argument[1] else "count(*)"
    if operation == "values":
        return "list(CAST(x AS DOUBLE))"
    raise InvalidQuery(f"unknown aggregation {operation!r}")


def _sum(session: Session, query: Aggregate, relation: Relation) -> str:
    if relation.readings["x"] == "int":
        return "coalesce(sum(x), 0)"
    select = query.select
    low, high = session.range(select).bounds
    rows = sum(s.rows for s in session.view.catalog.select(select.kind, select.names, low, high))
    return f"coalesce({'fsum' if rows <= EXACT_ROWS else 'sum'}(x), 0)"


def aggregate(session: Session, query: Aggregate) -> Any:
    """The answer: a number, None where there is nothing to answer from, or an ordered mapping of groups.

    Raises:
        InvalidQuery: the samples that it needs were deleted, and no rollup stands for them.
    """
    found = rolled_up(session, query)
    if found is not None:
        return _from_levels(session, query, found)
    if query.operation in ("current", "first", "last") and not query.by:
        return _edge(session, query)
    compiled = compile_aggregate(session, query)
    found = session.fetch(compiled.sql, compiled.parameters)
    if not query.by:
        value = number(found[0][0]) if found else None
        if query.operation == "rate":
            return _rate(session, query, value, *_rate_range(session, query))
        return value
    return _grouped(session, query, compiled, found)


def rolled_up(session: Session, query: Aggregate) -> Levels | None:
    """The rollups that answer a question, None: the records do. Raises InvalidQuery."""
    if query.select.kind != MEASURE or not session.engine.log.cached(DEFINED):
        return None
    from .levels import levels_of

    return levels_of(session, query)


def _from_levels(session: Session, query: Aggregate, levels: Levels) -> Any:
    def raw(plain: Aggregate) -> list[tuple[tuple[Any, ...], Any]]:
        if not query.by:
            if plain.operation == "last":
                return [((), _edge(session, plain))]
            compiled = compile_aggregate(session, plain)
            return [((), number(row[0])) for row in session.fetch(compiled.sql, compiled.parameters)]
        compiled = compile_aggregate(session, plain)
        return _decoded(session, query, compiled, session.fetch(compiled.sql, compiled.parameters))

    rows = [(key, levels.value(cell)) for key, cell in levels.groups(raw)]
    first = levels.state.first
    if not query.by:
        value = rows[0][1] if rows else levels.nothing()
        return (
            _rate(session, query, value, *_rate_range(session, query, first))
            if query.operation == "rate"
            else value
        )
    if query.bucket is None:
        rows.sort(key=lambda row: by_key(row[0]))
        rows.sort(key=lambda row: (row[1] is None, -row[1] if row[1] is not None else 0))
    return _first(query, _shaped(session, query, rows, first))


def _edge(session: Session, query: Aggregate) -> Any:
    """First and last value: look at the outermost segments first, and stop when none beyond can win."""
    newest = query.operation != "first"
    select = query.select
    low, high = session.range(select).bounds
    # A range that is narrowed keeps its other end, also where that is now.
    select = replace(select, since=_at(low), until=_at(high))
    segments = session.view.catalog.select(select.kind, select.names, low, high)
    edges = (
        sorted({s.max_time for s in segments}, reverse=True)
        if newest
        else sorted({s.min_time for s in segments})
    )
    tried = 0
    step = 1
    while True:
        if tried + step >= len(edges):
            narrowed = select
        else:
            edge = edges[tried + step]
            if (high is not None and edge + 1 >= high) if newest else (low is not None and edge <= low):
                # The segments beyond it reach out of the range: there is nothing to look at yet.
                tried += step
                step *= 4
                continue
            bound = {"since": _at(edge + 1)} if newest else {"until": _at(edge)}
            narrowed = replace(select, **bound)
        compiled = compile_aggregate(session, replace(query, select=narrowed))
        found = session.fetch(compiled.sql, compiled.parameters)[0][0]
        if found is not None or narrowed is select:
            return number(found)
        tried += step
        step *= 4


def _at(us: int | None) -> Any:
    return None if us is None else when.to_datetime(us)


def number(value: Any) -> Any:
    """Whole doubles as they came; NaN (of an empty stddev) as None."""
    if isinstance(value, float) and value != value:
        return None
    return value


def _rate_range(session: Session, query: Aggregate, first: int | None = None) -> tuple[int, int]:
    """The range's ends; `first` is the time of the earliest sample, if it was deleted since."""
    low, _ = extent(session, query)
    range_ = session.range(query.select)
    if first is not None and range_.since is None:
        low = min(low, first)
    return low, range_.end(session.now)


def _rate(session: Session, query: Aggregate, value: Any, low: int, high: int) -> float | None:
    unit = query.argument[0]
    if high <= low:
        return None
    return float(value or 0) / ((high - low) / unit)


def decode(
    dimension: Dimension, column: str, relation: Relation, key: Any, buckets_of: dict[int, int], tz: Any
) -> Any:
    """A key as the result shows it: a bucket's aware start, or the property's value with its type."""
    if dimension.kind == "bucket":
        return when.bucket_datetime(buckets_of[key], dimension.name, tz)
    if dimension.kind == "property" and key is not None:
        reading = relation.readings.get(column)
        if reading == "mixed":
            value = orjson.loads(key)
            return ListText(key) if isinstance(value, (dict, list)) else value
        if reading == "double" and key.is_integer() and abs(key) < 2**53:
            return int(key)
    return key


def _grouped(
    session: Session, query: Aggregate, compiled: Compiled, found: list[tuple[Any, ...]]
) -> dict[Any, Any]:
    groups = _shaped(session, query, _decoded(session, query, compiled, found))
    return groups if compiled.cut else _first(query, groups)


def _first(query: Aggregate, groups: dict[Any, Any]) -> dict[Any, Any]:
    return dict(islice(groups.items(), query.offset, query.stop))


def _decoded(
    session: Session, query: Aggregate, compiled: Compiled, found: list[tuple[Any, ...]]
) -> list[tuple[tuple[Any, ...], Any]]:
    """(key, value) of each row, the keys as the result shows them."""
    by = query.by
    at = next((n for n, d in enumerate(by) if d.kind == "bucket"), None)
    starts: dict[int, int] = {}
    if at is not None:
        starts = buckets.starts([row[at] for row in found], by[at].name, session.tz)
    rows: list[tuple[tuple[Any, ...], Any]] = []
    for row in found:
        key = tuple(
            decode(dimension, f"k{n}", compiled.relation, row[n], starts, session.tz)
            for n, dimension in enumerate(by)
        )
        rows.append((key, number(row[-1])))
    return rows


def _shaped(
    session: Session, query: Aggregate, rows: list[tuple[tuple[Any, ...], Any]], first: int | None = None
) -> dict[Any, Any]:
    """The mapping of a result: empty buckets filled, rates divided by their time."""
    by = query.by
    at = next((n for n, d in enumerate(by) if d.kind == "bucket"), None)
    if at is not None:
        rows = _filled(session, query, at, rows)
        if query.operation == "rate":
            rows = [(key, _bucket_rate(session, query, key[at], value)) for key, value in rows]
    elif query.operation == "rate":
        low, high = _rate_range(session, query, first)
        rows = [(key, _rate(session, query, value, low, high)) for key, value in rows]
    return mapping([(key[0] if len(by) == 1 else key, value) for key, value in rows])


def _filled(session: Session, query: Aggregate, at: int, rows: list[Any]) -> list[Any]:
    """Every bucket of the range, for every combination of the other keys that occurs."""
    unit = query.by[at].name
    range_ = session.range(query.select)
    low, high = range_.bounds
    seen = [when.instant(key[at], session.tz) for key, _ in rows]
    if low is None:
        if not seen:
            return []
        low = min(seen)
    if high is None:
        high = max([session.now + 1, *(start + 1 for start in seen)])
    empty = 0 if query.operation in _ZERO or query.operation == "rate" else None
    others: Any = [()]
    if len(query.by) > 1:
        others = {apart(other): other for key, _ in rows for other in (key[:at] + key[at + 1 :],)}.values()
        others = sorted(others, key=by_key)
    known = {apart(key): value for key, value in rows}
    filled = []
    for start in when.buckets(low, high, unit, session.tz):
        moment = when.bucket_datetime(start, unit, session.tz)
        within = []
        for other in others:
            key = (*other[:at], moment, *other[at:])
            within.append((key, known.get(apart(key), empty)))
        if len(query.by) > 1:
            within.sort(key=lambda pair: -pair[1] if pair[1] is not None else float("inf"))
        filled += within
    return filled


def _bucket_rate(session: Session, query: Aggregate, start: Any, value: Any) -> float | None:
    unit = query.bucket
    assert unit is not None
    low = when.instant(start, session.tz)
    high = when.next_bucket(low, unit.name, session.tz)
    range_ = session.range(query.select)
    low = low if range_.since is None else max(low, range_.since)
    high = min(high, range_.end(session.now))
    return _rate(session, query, value, low, max(high, low))
