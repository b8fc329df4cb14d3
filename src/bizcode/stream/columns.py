"""A range of the log as columns, for pipelines whose beginning needs no Python: what they read, by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from ..engine import Session
from ..engine.relation import VALUE, Column
from ..plan import predicates
from ..plan.access import HoldsObjects
from ..plan.condition import And, Condition
from ..plan.fields import Field
from ..plan.sql import Parameters
from ..record import MEASURE, SYSTEM
from .element import key_field
from .history import selects
from .steps import Aggregate, Filter, KeyBy

if TYPE_CHECKING:
    from ..consume import Pattern
    from .pipeline import Pipeline

__all__ = ["Beginning", "Columnar", "Columns", "beginning", "columnar", "columns_of", "read"]

_OWN = ("user", "event", "id", "position")
_NUMBERS = frozenset(("sum", "avg", "percentile", "stddev"))


@dataclass(frozen=True, slots=True)
class Columnar:
    """The declarative beginning of a pipeline: filters, a key, one aggregate over windows at `stage`."""

    stage: int
    before: Condition
    after: Condition
    keys: tuple[Field, ...]
    names: tuple[str, ...]
    step: Aggregate
    values: tuple[tuple[str, Field] | None, ...]
    """Of each aggregation what it reads: the kind of its column, and the field; None for nothing but the time."""


@dataclass(frozen=True, slots=True)
class Values:
    """One field of the rows: an array, which of them are None (None: none are), and how they are typed."""

    array: Any
    missing: Any
    reading: str

    @staticmethod
    def of(column: Any, reading: str) -> Values:
        """From an Arrow column; mixed values come as JSON."""
        import numpy

        missing = column.is_null().to_numpy() if column.null_count else None
        if reading in ("int", "double"):
            filled = column.fill_null(0) if column.null_count else column
            return Values(filled.to_numpy(), missing, reading)
        found = column.to_pylist()
        if reading == "mixed":
            found = [None if text is None else orjson.loads(text) for text in found]
        array = numpy.empty(len(found), dtype=object)
        array[:] = found
        return Values(array, missing, reading)


@dataclass(frozen=True, slots=True)
class Columns:
    """Records in order of position, as arrays; times in microseconds.

    `passing` are the rows that the filters let through, `codes` number their keys; `keys` gives the key of
    each number. `values` are those of each aggregation, None for nothing but the time.
    """

    positions: Any
    times: Any
    passing: Any
    codes: Any
    keys: list[Any]
    unknown: int
    values: list[Values | None]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first steps of a pipeline as far as they are filters and one key of fields: `steps` many."""

    steps: int
    before: Condition
    after: Condition
    keys: tuple[Field, ...]
    names: tuple[str, ...]


def beginning(pipeline: Pipeline) -> Beginning:
    """How a pipeline begins without Python. Its source has one kind of records."""
    measured = MEASURE in pipeline.source.pattern.kinds
    before: list[Condition] = []
    after: list[Condition] = []
    key: KeyBy | None = None
    steps = 0
    for step in pipeline.steps:
        if isinstance(step, Filter) and predicates.split(step.condition)[1] is None:
            (before if key is None else after).append(step.condition)
        elif isinstance(step, KeyBy) and key is None and all(isinstance(part, str) for part in step.parts):
            key = step
        else:
            break
        steps += 1
    keys = () if key is None else tuple(_field(key_field(part), measured) for part in key.parts)
    return Beginning(steps, And(tuple(before)), And(tuple(after)), keys, () if key is None else key.names)


def columnar(pipeline: Pipeline, several: bool = False) -> Columnar | None:
    """How a pipeline begins, None if that needs Python for each element. `several`: other windows may follow."""
    from .steps import Join, Reduce

    if isinstance(pipeline.source, Join) or len(pipeline.source.pattern.kinds) != 1:
        return None
    begin = beginning(pipeline)
    step, rest = next(iter(pipeline.steps[begin.steps :]), None), pipeline.steps[begin.steps + 1 :]
    if not isinstance(step, Aggregate) or step.window is None:
        return None
    values = _values(step, MEASURE in pipeline.source.pattern.kinds)
    if any(field.path == ("timestamp",) for field in begin.keys):
        return None
    others = not several and any(isinstance(other, (Aggregate, Reduce)) for other in rest)
    if others or values is None or not _fits(step):
        return None
    return Columnar(begin.steps, begin.before, begin.after, begin.keys, begin.names, step, values)


def columns_of(plan: Columnar | Beginning) -> dict[str, Column]:
    """What each record gives: "p", "t", "f" and "g" (it passes the filters before the key, and behind it), the key."""
    columns = {"p": Column("position"), "t": Column("timestamp")}
    columns |= {"f": Column("flag", condition=plan.before), "g": Column("flag", condition=plan.after)}
    return columns | {f"k{n}": Column(_kind(field), field) for n, field in enumerate(plan.keys)}


def _fits(step: Aggregate) -> bool:
    from .windows import DAY

    window = step.window
    assert window is not None
    if window.kind == "session" or (window.kind == "tumbling" and window.unit is not None):
        return True
    return window.slide % DAY != 0 and window.size % window.slide == 0


def _values(step: Aggregate, measured: bool) -> tuple[tuple[str, Field] | None, ...] | None:
    found: list[tuple[str, Field] | None] = []
    for made in step.compute.values():
        if made.operation == "count" or (made.field is not None and made.field.path == ("timestamp",)):
            found.append(None)
        elif made.field is None:
            return None
        else:
            field = _field(made.field, measured)
            kind = _kind(field)
            if made.operation in _NUMBERS:
                if kind == "plain" or field.own:
                    return None
                kind = "number"
            found.append((kind, field))
    return tuple(found)


def _kind(field: Field) -> str:
    """What reads a field as an element does: a property, or what a record has of its own."""
    return "plain" if not field.own and len(field.path) == 1 and field.path[0] in _OWN else "key"


def _field(field: Field, measured: bool) -> Field:
    return VALUE if measured and field.path == ("value",) else field


def read(
    session: Session, plan: Columnar, pattern: Pattern, after: int, until: int, live: bool
) -> Columns | None:
    """The records after one position and up to another; None where they must be taken one by one.

    Args:
        live: retractions among them, or of them, are events of their own.
    """
    import numpy

    if live and _retractions(session, pattern, after, until):
        return None
    # A stream sees records as they were written: ids that are one by now were two then.
    session.view = replace(session.view, merged=False)
    columns = columns_of(plan)
    for n, value in enumerate(plan.values):
        if value is not None:
            columns[f"v{n}"] = Column(value[0], value[1])
    chosen = selects(session, pattern, pattern.since, None)
    if not chosen:
        return _nothing(plan)
    parameters = Parameters()
    try:
        relation = session.relation(chosen[0], columns, parameters, (after, until))
    except HoldsObjects:
        return None
    others = ", ".join(name for name in columns if name not in ("p", "t"))
    sql = f"SELECT p, epoch_us(t) AS t, {others} FROM ({relation.sql})"
    cursor = session.cursor.cursor()
    try:
        table = cursor.sql(sql, params=parameters.values).to_arrow_table()
    finally:
        cursor.close()
    positions = table["p"].to_numpy()
    order = numpy.argsort(positions, kind="stable")
    table = table.take(order)
    flags = _flags(table["f"])
    passing = flags & _flags(table["g"])
    codes, keys, missing = _keys(table, plan, relation.readings, passing)
    values: list[Values | None] = []
    for n, value in enumerate(plan.values):
        if value is None:
            values.append(None)
            continue
        reading = relation.readings[f"v{n}"]
        values.append(Values.of(table[f"v{n}"], reading))
    unknown = int((missing & flags).sum()) if plan.keys else 0
    return Columns(positions[order], table["t"].to_numpy(), passing, codes, keys, unknown, values)


def _nothing(plan: Columnar) -> Columns:
    import numpy

    empty = numpy.empty(0, dtype=numpy.int64)
    return Columns(empty, empty, empty.astype(bool), empty, [], 0, [None for _ in plan.values])


def _flags(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(column, False).to_numpy().astype(bool)


def _keys(table: Any, plan: Columnar, readings: Any, passing: Any) -> tuple[Any, list[Any], Any]:
    """Each row's key as a number, the keys by number, and which rows lack a part."""
    import numpy

    rows = len(table)
    codes = numpy.zeros(rows, dtype=numpy.int64)
    missing = numpy.zeros(rows, dtype=bool)
    if not plan.keys:
        return codes, [None], missing
    parts: list[list[Any]] = []
    for n in range(len(plan.keys)):
        column = table[f"k{n}"].combine_chunks().dictionary_encode()
        values = [_key(value, readings[f"k{n}"]) for value in column.dictionary.to_pylist()]
        found = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(numpy.int64)
        missing |= found == len(values)
        parts.append([*values, None])
        codes = codes * len(parts[-1]) + found
    distinct, codes = numpy.unique(codes, return_inverse=True)
    keys: list[Any] = []
    for code in distinct.tolist():
        found_parts = []
        for part in reversed(parts):
            code, at = divmod(code, len(part))
            found_parts.append(part[at])
        found_parts.reverse()
        keys.append(found_parts[0] if len(parts) == 1 else tuple(found_parts))
    return codes, keys, missing


def _key(value: Any, reading: str) -> Any:
    if reading == "mixed" and value is not None:
        value = orjson.loads(value)
    return int(value) if type(value) is float and value.is_integer() else value


def _retractions(session: Session, pattern: Pattern, after: int, until: int) -> bool:
    from ..plan.select import Select

    for (kind, name), positions in session.view.retracted.items():
        if (
            kind in pattern.kinds
            and (pattern.names is None or name in pattern.names)
            and any(after < position <= until for position in positions)
        ):
            return True
    parameters = Parameters()
    select = Select(kind=SYSTEM, names=("retract",))
    relation = session.relation(select, {"p": Column("position")}, parameters, (after, until))
    return bool(session.fetch(f"SELECT 1 FROM ({relation.sql}) LIMIT 1", parameters))


def slices(cut: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Where runs of rows begin and end; `cut` says of every row but the first whether a run begins there."""
    import numpy

    starts = numpy.concatenate(([0], numpy.flatnonzero(cut) + 1)).tolist()
    return starts, [*starts[1:], len(cut) + 1]
