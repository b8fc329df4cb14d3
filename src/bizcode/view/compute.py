"""A view's rows, by one grouped statement over the records, or by a fold over the elements of another source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine import Session
from ..engine.aggregate import decode, number
from ..engine.relation import VALUE, Column
from ..errors import InvalidQuery
from ..plan.aggregation import Aggregation, finish, fold, start
from ..plan.condition import TRUE
from ..plan.fields import as_field, read
from ..plan.select import Dimension
from ..plan.sql import Parameters
from ..record import MEASURE, Row
from .definition import Definition

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["arranged", "rows"]


def rows(store: Store, definition: Definition) -> dict[tuple[Any, ...], Row]:
    """All groups that meet `having`, by key; before order and limit."""
    if definition.select is not None:
        with store.engine.session() as session:
            found = _by_sql(session, definition)
    else:
        found = _by_fold(store, definition)
    if definition.having != TRUE:
        found = {key: row for key, row in found.items() if definition.having.matches(row)}
    return found


def arranged(
    found: Iterable[Row], order_by: tuple[tuple[str, bool], ...], limit: int | None, offset: int = 0
) -> list[Row]:
    """Rows in order; None last, ties in the order given."""
    made = list(found)
    for name, descending in reversed(order_by):
        made.sort(key=lambda row: _sortable(row.get(name)), reverse=descending)
        made.sort(key=lambda row: row.get(name) is None)
    return made[offset : None if limit is None else offset + limit]


def _sortable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    return (3, value) if isinstance(value, str) else (4, str(value))


def _by_sql(session: Session, definition: Definition) -> dict[tuple[Any, ...], Row]:
    select = definition.select
    assert select is not None
    if definition.last is not None:
        select = replace(select, since=when.to_datetime(session.now - definition.last))
    columns: dict[str, Column] = {"moment": Column("timestamp"), "position": Column("position")}
    dimensions = [
        Dimension("user", "user") if name == "user" else Dimension("property", name, as_field(name))
        for name in definition.group_by
    ]
    for n, dimension in enumerate(dimensions):
        columns[f"k{n}"] = Column("user") if dimension.kind == "user" else Column("key", dimension.field)
    parts: list[tuple[str, Aggregation, str]] = []
    for n, (name, made) in enumerate(definition.compute.items()):
        kind = ""
        if made.field is not None:
            if made.field.path == ("timestamp",):
                kind = "time"
            else:
                field = VALUE if made.field.path == ("value",) and select.kind == MEASURE else made.field
                numeric = made.operation in ("sum", "avg", "percentile", "stddev")
                kind = "number" if numeric else "key"
                columns[f"x{n}"] = Column("number" if numeric or field is VALUE else "key", field)
                if made.operation in ("min", "max") and field is not VALUE:
                    columns[f"n{n}"] = Column("number", field)
        parts.append((name, made, kind))
    parameters = Parameters()
    relation = session.relation(select, columns, parameters)
    keys = [f"k{n}" for n in range(len(dimensions))]
    values = [_sql(made, kind, n, relation.readings) for n, (_, made, kind) in enumerate(parts)]
    counted = ["count(*)"] if not keys else []
    sql = f"SELECT {', '.join([*keys, *values, *counted])} FROM ({relation.sql})"
    if keys:
        sql += f" GROUP BY {', '.join(keys)} ORDER BY {', '.join(f'{k} ASC NULLS LAST' for k in keys)}"
    found: dict[tuple[Any, ...], Row] = {}
    for row in session.fetch(sql, parameters):
        if counted and not row[-1]:
            continue
        key = tuple(decode(d, f"k{n}", relation, row[n], {}, session.tz) for n, d in enumerate(dimensions))
        shown = dict(zip(definition.group_by, key, strict=True))
        for n, (name, made, kind) in enumerate(parts):
            shown[name] = _shown(made, kind, row[len(keys) + n], relation.readings.get(f"x{n}", ""))
        found[key] = Row(shown)
    return found


def _sql(made: Aggregation, kind: str, n: int, readings: Any) -> str:
    operation = made.operation
    x = "epoch_us(moment)" if kind == "time" else f"x{n}"
    if operation == "count":
        return "count(*)"
    if operation == "sum":
        return f"coalesce({'sum' if readings.get(f'x{n}') == 'int' else 'fsum'}({x}), 0)"
    if operation == "avg":
        return f"avg({x})"
    if operation in ("min", "max"):
        plain = (
            kind == "time" or readings.get(f"x{n}") in ("int", "double", "text") or f"n{n}" not in readings
        )
        return f"{operation}({x if plain else f'n{n}'})"
    if operation == "first":
        return f"arg_min({x}, (moment, position))"
    if operation == "last":
        return f"arg_max({x}, (moment, position))"
    if operation == "distinct":
        return f"count(DISTINCT {x})"
    if operation == "percentile":
        return f"quantile_cont(CAST({x} AS DOUBLE), {(made.argument or 0) / 100!r})"
    if operation == "stddev":
        return f"stddev_samp(CAST({x} AS DOUBLE))"
    if operation == "collect" and made.field is not None:
        return f"list({x} ORDER BY moment, position) FILTER (WHERE {x} IS NOT NULL)"
    raise InvalidQuery(f"a view can't compute {made!r}: collect() needs a field there")


def _shown(made: Aggregation, kind: str, value: Any, reading: str) -> Any:
    if value is None:
        return [] if made.operation == "collect" else None
    if kind == "time" and made.operation in ("min", "max", "first", "last"):
        return when.to_datetime(value)
    if made.operation == "collect":
        if kind == "time":
            return [when.to_datetime(item) for item in value]
        return [_decoded(item, reading) for item in value]
    if made.operation in ("first", "last"):
        return _decoded(value, reading)
    return number(value)


def _decoded(value: Any, reading: str) -> Any:
    import orjson

    return orjson.loads(value) if reading == "mixed" else value


def _by_fold(store: Store, definition: Definition) -> dict[tuple[Any, ...], Row]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    source = definition.source
    elements = source.get().run() if hasattr(source, "get") else source.run(since="start").run()
    edge = None if definition.last is None else store.now() - definition.last
    for n, element in enumerate(elements):
        if definition.where != TRUE and not definition.where.matches(element):
            continue
        moment = getattr(element, "timestamp", None)
        time = when.instant(moment, store.tz) if moment is not None else 0
        if edge is not None and moment is not None and time < edge:
            continue
        key = tuple(_plain(read(element, as_field(name))) for name in definition.group_by)
        states = groups.setdefault(key, {name: start(made) for name, made in definition.compute.items()})
        for name, made in definition.compute.items():
            states[name] = fold(made, states[name], element, (time, n))
    return {
        key: Row(
            dict(zip(definition.group_by, key, strict=True))
            | {name: finish(made, states[name]) for name, made in definition.compute.items()}
        )
        for key, states in groups.items()
    }


def _plain(value: Any) -> Any:
    from ..plan.fields import MISSING

    return None if value is MISSING else value
