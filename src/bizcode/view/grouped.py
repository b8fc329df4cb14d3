"""A stretch of the log, grouped: for each group how many records, and an accumulator's state per aggregation.

One statement does it in DuckDB; the states are merged into those of the groups that are known. Users come by the ids
that were written: which of them are one is the caller's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .. import when
from ..engine import Session
from ..engine.aggregate import decode
from ..engine.relation import VALUE, Column, Relation
from ..plan import predicates
from ..plan.accumulator import Accumulator
from ..plan.fields import Field
from ..plan.removing import RESERVE, Reserved, reserved
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters
from ..record import MEASURE
from .definition import OWN, Definition
from .order import Key, key_of

__all__ = ["NUMBERS", "Entry", "Part", "answering", "entries", "folds_of", "own_of", "states"]

Entry = tuple[Key, int, int, tuple[Any, ...]]
NUMBERS = frozenset(("sum", "avg", "percentile", "stddev"))
"""Aggregations that take numbers only."""

_ARRAYS = {"text": "VARCHAR", "int": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "mixed": "VARCHAR"}


@dataclass(frozen=True, slots=True)
class Part:
    """One group of a stretch of the log. `rounded`: its sums of floats are rounded."""

    key: Key
    count: int
    states: list[Any]
    rounded: bool


@dataclass(frozen=True, slots=True)
class _Read:
    relation: Relation
    parameters: Parameters
    dimensions: list[Dimension]


def folds_of(definition: Definition) -> list[Accumulator]:
    """An accumulator for each aggregation, in order."""
    return [reserved(made) for made in definition.compute.values()]


def field_of(made: Any, select: Select) -> Field:
    """The field that an aggregation reads; `value` of a measurement is its number."""
    return VALUE if made.field.path == ("value",) and select.kind == MEASURE else made.field


def own_of(field: Field) -> str | None:
    """The record's own attribute that a field means to a view: its user, or its event's name."""
    return field.path[0] if len(field.path) == 1 and field.path[0] in OWN and not field._raw else None


def _column(field: Field | None, own: str | None) -> Column:
    if own is None or own not in OWN:
        return Column("key", field)
    return Column("user" if own == "user" else "name")


def _read(session: Session, definition: Definition, span: tuple[int, int] | None, since: int | None) -> _Read:
    select = definition.select
    assert select is not None
    if since is not None:
        select = replace(select, since=when.to_datetime(since))
    columns: dict[str, Column] = {"moment": Column("timestamp"), "position": Column("position")}
    dimensions = [
        Dimension(name, name)
        if definition.is_own(name)
        else Dimension("property", name, definition.field_of(name))
        for name in definition.group_by
    ]
    for n, dimension in enumerate(dimensions):
        # Which ids are one user the caller knows.
        columns[f"k{n}"] = (
            Column("user", name="raw")
            if dimension.kind == "user"
            else _column(dimension.field, dimension.kind)
        )
    for n, made in enumerate(definition.compute.values()):
        if made.field is not None and made.field.path != ("timestamp",) and made.operation != "count":
            kind = "number" if made.operation in NUMBERS else "key"
            field = field_of(made, select)
            columns[f"x{n}"] = Column(kind, field) if kind == "number" else _column(field, own_of(field))
    parameters = Parameters()
    return _Read(session.relation(select, columns, parameters, span), parameters, dimensions)


def _key(session: Session, read: _Read, row: tuple[Any, ...]) -> Key:
    return tuple(
        decode(dimension, f"k{n}", read.relation, row[n], {}, session.tz)
        for n, dimension in enumerate(read.dimensions)
    )


def answering(
    session: Session, definition: Definition, whole: bool = True
) -> AbstractContextManager[Session]:
    """Whom to ask for the groups of all history (of `whole`): the engine that the business was opened with, unless a
    Python function stands among the conditions."""
    select = definition.select
    assert select is not None
    if not whole or predicates.split(select.where)[1] is not None:
        return nullcontext(session)
    return session.engine.answering(session)


def states(
    session: Session,
    definition: Definition,
    span: tuple[int, int] | None = None,
    since: int | None = None,
    only: Mapping[int, Collection[Any]] | None = None,
) -> Iterator[Part]:
    """Each group among the records after one position and up to another (None: all), from an instant on.

    Args:
        only: which parts (see `order.place_of`) a key may have at some of its places. Sums of floats are then
            exact.
    """
    read = _read(session, definition, span, since)
    keys = [f"k{n}" for n in range(len(read.dimensions))]
    folds = folds_of(definition)
    readings = _readings(read, folds)
    exact = only is not None
    values = [
        _sql(fold, n, reading, exact, session.histograms)
        for n, (fold, reading) in enumerate(zip(folds, readings, strict=True))
    ]
    sql = f"SELECT {', '.join([*keys, 'count(*)', *values])} FROM ({read.relation.sql})"
    if only:
        sql += f" WHERE {_among(read, only)}"
    if keys:
        sql += f" GROUP BY {', '.join(keys)}"
    made = [
        (fold, len(keys) + 1 + n, reading)
        for n, (fold, reading) in enumerate(zip(folds, readings, strict=True))
    ]
    rounded = not exact and any(_is_float_sum(fold, reading) for fold, _, reading in made)
    as_shown = all(read.relation.readings.get(key) in ("text", "int", "") for key in keys)
    for rows in session.batches(sql, read.parameters):
        for row in rows:
            count = row[len(keys)]
            if count:
                key = row[: len(keys)] if as_shown else _key(session, read, row)
                yield Part(key, count, [_state(fold, row[at], count, how) for fold, at, how in made], rounded)


def _readings(read: _Read, folds: list[Accumulator]) -> list[str]:
    """How the values of each aggregation are typed; a user or a name is text."""
    found = read.relation.readings
    return [found.get(f"x{n}", "") or "text" if f"x{n}" in found else "" for n in range(len(folds))]


def _is_float_sum(fold: Accumulator, reading: str) -> bool:
    return fold.made.operation in ("sum", "avg") and not fold.instants and reading != "int"


def _among(read: _Read, only: Mapping[int, Collection[Any]]) -> str:
    """SQL that lets keys of these parts through."""
    parts = []
    for n, wanted in only.items():
        column = f"k{n}"
        reading = read.relation.readings.get(column) or "text"
        values = [value for value in key_of(tuple(wanted)) if value is not None and _fits(value, reading)]
        if reading == "mixed":
            values = _json(read, values)
            found = f"{column} IN ({', '.join(values)})" if values else "FALSE"
        else:
            given = read.parameters.add(list(map(float, values)) if reading == "double" else values)
            found = f"{column} IN (SELECT unnest({given}::{_ARRAYS[reading]}[]))"
        parts.append(f"({found} OR {column} IS NULL)" if None in wanted else found)
    return " AND ".join(parts)


def _fits(value: Any, reading: str) -> bool:
    if reading == "text":
        return isinstance(value, str)
    if reading == "bool":
        return isinstance(value, bool)
    if reading == "int":
        return type(value) is int
    return reading == "mixed" or type(value) in (int, float)


def _json(read: _Read, values: list[Any]) -> list[str]:
    """The JSON texts of values, made as those of mixed columns are; a text may be that of a list itself."""
    found = []
    for value in values:
        type = "BOOLEAN" if isinstance(value, bool) else "BIGINT" if isinstance(value, int) else "DOUBLE"
        if isinstance(value, str):
            type = "VARCHAR"
            found.append(f"{read.parameters.add(value)}::VARCHAR")
        found.append(f"CAST(to_json({read.parameters.add(value)}::{type}) AS VARCHAR)")
    return found


def _sql(fold: Accumulator, n: int, reading: str, exact: bool, histograms: bool) -> str:
    """SQL of an accumulator's state, or of the values that it is made of."""
    operation = fold.made.operation
    x = "epoch_us(moment)" if fold.instants else f"x{n}"
    placed = f"{{'t': epoch_us(moment), 'p': position, 'x': {x}}}"
    if operation == "count":
        return "NULL"
    if operation in ("sum", "avg"):
        if fold.instants or reading == "int":
            whole = x if histograms else f"CAST({x} AS HUGEINT)"
            return f"{{'n': count({x}), 'i': sum({whole}), 'f': NULL}}"
        if exact:
            return f"list({x}) FILTER ({x} IS NOT NULL)"
        return f"{{'n': count({x}), 'i': NULL, 'f': fsum({x})}}"
    if operation in ("min", "max") and (fold.instants or reading in ("int", "double", "text")):
        return f"{operation}({x}, {RESERVE})" if exact else f"{operation}({x})"
    if operation in ("first", "last"):
        return f"{'arg_min' if operation == 'first' else 'arg_max'}({placed}, (moment, position)) FILTER ({x} IS NOT NULL)"
    if operation == "distinct" and histograms:
        return f"histogram({x})"
    if operation == "collect":
        return f"list({placed}) FILTER ({x} IS NOT NULL)"
    return f"list({x}) FILTER ({x} IS NOT NULL)"


def _state(fold: Accumulator, value: Any, count: int, reading: str) -> Any:
    """The state that a value of `_sql` means."""
    operation = fold.made.operation
    state = fold.new()
    if operation == "count":
        return [count]
    if value is None:
        return state
    listed = isinstance(value, list)
    if isinstance(fold, Reserved) and (fold.instants or reading in ("int", "double", "text")):
        best = value if listed else [value]
        fold.known(state, 1 if reading == "text" else 0, best, listed and len(best) < RESERVE)
        return state
    if operation == "collect":
        for item in value:
            fold.add(state, _value(item["x"], reading), item["t"], item["p"])
    elif listed:
        fold.many(state, [_value(item, reading) for item in value], range(len(value)), range(len(value)))
    elif operation in ("sum", "avg"):
        if value["n"]:
            whole, part = int(value["i"] or 0), value["f"]
            fold.merge(state, [value["n"], whole, [] if part is None else [part]])
    elif operation in ("first", "last"):
        fold.add(state, _value(value["x"], reading), value["t"], value["p"])
    elif operation == "distinct":
        for item, times in value.items():
            one = fold.new()
            fold.add(one, _value(item, reading), 0, 0)
            fold.merge(state, dict.fromkeys(one, times))
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
