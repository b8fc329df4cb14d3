"""A stretch of the log, grouped: for each group how many records, and an accumulator's state per aggregation.

One statement does it in DuckDB; the states are merged into those of the groups that are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .. import when
from ..engine import Session
from ..engine.aggregate import decode
from ..engine.relation import VALUE, Column, Relation
from ..plan.accumulator import Accumulator, accumulator
from ..plan.fields import Field, as_field
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters
from ..record import MEASURE, Row
from .definition import Definition

__all__ = ["Entry", "Key", "entries", "folds_of", "key_order", "row_of", "states"]

Key = tuple[Any, ...]
Entry = tuple[Key, int, int, tuple[Any, ...]]
_NUMBERS = frozenset(("sum", "avg", "percentile", "stddev"))


@dataclass(frozen=True, slots=True)
class _Read:
    relation: Relation
    parameters: Parameters
    dimensions: list[Dimension]


def folds_of(definition: Definition) -> list[Accumulator]:
    """An accumulator for each aggregation, in order."""
    return [accumulator(made) for made in definition.compute.values()]


def row_of(definition: Definition, folds: list[Accumulator], key: Key, found: list[Any]) -> Row:
    """A group's row: its key, and the results of its accumulators' states."""
    shown = dict(zip(definition.group_by, key, strict=True))
    for name, fold, state in zip(definition.compute, folds, found, strict=True):
        shown[name] = fold.result(state)
    return Row(shown)


def key_order(key: Key) -> tuple[Any, ...]:
    """What groups are sorted by where no order is asked for."""
    return tuple(
        (5, 0)
        if part is None
        else (0, part)
        if isinstance(part, bool)
        else (1, part)
        if isinstance(part, (int, float))
        else (2, part)
        if isinstance(part, str)
        else (3, str(part))
        for part in key
    )


def field_of(made: Any, select: Select) -> Field:
    """The field that an aggregation reads; `value` of a measurement is its number."""
    return VALUE if made.field.path == ("value",) and select.kind == MEASURE else made.field


def _read(session: Session, definition: Definition, span: tuple[int, int] | None, since: int | None) -> _Read:
    select = definition.select
    assert select is not None
    if since is not None:
        select = replace(select, since=when.to_datetime(since))
    columns: dict[str, Column] = {"moment": Column("timestamp"), "position": Column("position")}
    dimensions = [
        Dimension("user", "user") if name == "user" else Dimension("property", name, as_field(name))
        for name in definition.group_by
    ]
    for n, dimension in enumerate(dimensions):
        columns[f"k{n}"] = Column("user") if dimension.kind == "user" else Column("key", dimension.field)
    for n, made in enumerate(definition.compute.values()):
        if made.field is not None and made.field.path != ("timestamp",) and made.operation != "count":
            kind = "number" if made.operation in _NUMBERS else "key"
            columns[f"x{n}"] = Column(kind, field_of(made, select))
    parameters = Parameters()
    return _Read(session.relation(select, columns, parameters, span), parameters, dimensions)


def _key(session: Session, read: _Read, row: tuple[Any, ...]) -> Key:
    return tuple(
        decode(dimension, f"k{n}", read.relation, row[n], {}, session.tz)
        for n, dimension in enumerate(read.dimensions)
    )


def states(
    session: Session, definition: Definition, span: tuple[int, int] | None = None, since: int | None = None
) -> Iterator[tuple[Key, int, list[Any]]]:
    """(key, records, states) of each group among the records after one position and up to another (None: all),
    from an instant on."""
    read = _read(session, definition, span, since)
    keys = [f"k{n}" for n in range(len(read.dimensions))]
    folds = folds_of(definition)
    values = [_sql(fold, n, read.relation.readings.get(f"x{n}", "")) for n, fold in enumerate(folds)]
    sql = f"SELECT {', '.join([*keys, 'count(*)', *values])} FROM ({read.relation.sql})"
    if keys:
        sql += f" GROUP BY {', '.join(keys)}"
    made = [
        (fold, len(keys) + 1 + n, read.relation.readings.get(f"x{n}", "")) for n, fold in enumerate(folds)
    ]
    as_shown = all(read.relation.readings.get(key) in ("text", "int", "bool") for key in keys)
    cursor = session.cursor.execute(sql, read.parameters.values)
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            count = row[len(keys)]
            if count:
                key = row[: len(keys)] if as_shown else _key(session, read, row)
                yield key, count, [_state(fold, row[at], count, reading) for fold, at, reading in made]


def _sql(fold: Accumulator, n: int, reading: str) -> str:
    """SQL of an accumulator's state, or of the values that it is made of."""
    operation = fold.made.operation
    x = "epoch_us(moment)" if fold.instants else f"x{n}"
    placed = f"{{'t': epoch_us(moment), 'p': position, 'x': {x}}}"
    if operation == "count":
        return "NULL"
    if operation in ("sum", "avg"):
        if fold.instants or reading == "int":
            return f"{{'n': count({x}), 'i': sum({x}), 'f': NULL}}"
        return f"{{'n': count({x}), 'i': NULL, 'f': fsum({x})}}"
    if operation in ("min", "max") and (fold.instants or reading in ("int", "double", "text")):
        return f"{operation}({x})"
    if operation in ("first", "last"):
        return f"{'arg_min' if operation == 'first' else 'arg_max'}({placed}, (moment, position)) FILTER ({x} IS NOT NULL)"
    if operation == "distinct":
        return f"histogram({x})"
    if operation == "collect":
        return f"list({placed}) FILTER ({x} IS NOT NULL)"
    return f"list({x}) FILTER ({x} IS NOT NULL)"


def _state(fold: Accumulator, value: Any, count: int, reading: str) -> Any:
    operation = fold.made.operation
    state = fold.new()
    if operation == "count":
        return [count]
    if value is None:
        return state
    if operation in ("sum", "avg"):
        if value["n"]:
            whole, part = value["i"] or 0, value["f"]
            fold.merge(state, [value["n"], whole, [] if part is None else [part]])
        return state
    if operation in ("first", "last"):
        fold.add(state, _value(value["x"], reading), value["t"], value["p"])
    elif operation == "distinct":
        for item, times in value.items():
            one = fold.new()
            fold.add(one, _value(item, reading), 0, 0)
            fold.merge(state, dict.fromkeys(one, times))
    elif operation == "collect":
        for item in value:
            fold.add(state, _value(item["x"], reading), item["t"], item["p"])
    elif isinstance(value, list):
        fold.many(state, [_value(item, reading) for item in value], range(len(value)), range(len(value)))
    else:
        fold.add(state, value, 0, 0)
    return state


def _value(value: Any, reading: str) -> Any:
    return orjson.loads(value) if reading == "mixed" and value is not None else value


def entries(session: Session, definition: Definition, span: tuple[int, int], since: int) -> Iterator[Entry]:
    """(key, time, position, values) of each record from an instant on, after one position and up to another."""
    read = _read(session, definition, span, since)
    keys = [f"k{n}" for n in range(len(read.dimensions))]
    folds = folds_of(definition)
    readings = read.relation.readings
    shown = [f"x{n}" if f"x{n}" in readings else "NULL" for n in range(len(folds))]
    sql = (
        f"SELECT {', '.join([*keys, 'epoch_us(moment)', 'position', *shown])} FROM ({read.relation.sql}) "
        f"ORDER BY moment, position"
    )
    cursor = session.cursor.execute(sql, read.parameters.values)
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            time, position = row[len(keys)], row[len(keys) + 1]
            values = tuple(
                time if fold.instants else _value(row[len(keys) + 2 + n], readings.get(f"x{n}", ""))
                for n, fold in enumerate(folds)
            )
            yield _key(session, read, row), time, position, values
