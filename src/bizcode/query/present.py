"""Results as tables: names and rows, for the eye (`text`, `notebook`) and for data frames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime
from typing import Any, TypeGuard

from ..errors import BizError
from ..record import Record, Row

__all__ = ["Table", "arrow_table", "frame_pandas", "frame_polars", "to_table", "view"]

_FRACTIONS = frozenset(
    ("chance_to_beat", "confidence", "conversion", "lift", "probability", "rate", "retention", "total_rate")
)
_UNITS = frozenset(("minute", "hour", "day", "week", "month", "quarter", "year"))


@dataclass(frozen=True, slots=True)
class Table:
    """Names and rows of plain Python values.

    Attributes:
        keys: how many columns, from the left, are keys that the rest is grouped by.
        total: how many rows there are in all, where `rows` are only the first of them.
        formats: column to how it is shown: "percent" (0.2 is 20 %), "points" (20.0 is 20 %), "change" (signed),
            a time bucket's unit.
        bar: the column that a small bar is drawn of.
        notes: sentences below the table.
        zone: the IANA name of the zone that instants are shown and handed on in.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    keys: int = 0
    total: int | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    bar: str | None = None
    notes: tuple[str, ...] = ()
    zone: str = "UTC"


def to_table(result: Any, title: str = "result", heads: tuple[str, ...] = (), zone: str = "UTC") -> Table:
    """Any result as a table: a value is one row, a mapping one row per key, a list one row per item, a funnel
    one per step, a schema one per property, cohorts one per cohort and period.

    Args:
        title: the name of a column of bare values.
        heads: the names of the parts of a mapping's keys.
        zone: the zone of the table's instants.

    >>> to_table({"pro": 2, "free": 1}, "count", ("plan",)).rows
    [('pro', 2), ('free', 1)]
    """
    if isinstance(result, Mapping) and not isinstance(result, Row):
        return _of_mapping(result, title, heads, zone)
    return _of_list(_items(result), title, zone)


def _items(result: Any) -> list[Any]:
    if isinstance(result, (list, tuple)) and not hasattr(result, "_names"):
        return list(result)
    if is_cohorts(result):
        return [
            Row(
                cohort=cohort.start,
                size=cohort.size,
                period=period,
                count=cohort.counts[period],
                retention=cohort.retention[period],
                **({} if cohort.values is None else {"value": cohort.values[period]}),
            )
            for cohort in result.cohorts
            for period in range(len(cohort.counts))
        ]
    if is_funnel(result):
        return list(result.steps)
    if is_schema(result):
        return list(result.properties.values())
    return [result]


def is_cohorts(result: Any) -> TypeGuard[Any]:
    """Whether it is a retention table."""
    return hasattr(type(result), "cohorts") and hasattr(type(result), "granularity")


def is_schema(result: Any) -> TypeGuard[Any]:
    """Whether it is what has been seen of a name."""
    return hasattr(type(result), "properties") and hasattr(type(result), "versions")


def is_funnel(result: Any) -> TypeGuard[Any]:
    """Whether it is a funnel."""
    return hasattr(type(result), "steps") and hasattr(type(result), "conversion")


def _of_mapping(result: Mapping[Any, Any], title: str, heads: tuple[str, ...], zone: str) -> Table:
    width = max((len(key) for key in result if isinstance(key, tuple)), default=1)
    if len(heads) != width:
        heads = ("key",) if width == 1 else tuple(f"key {n + 1}" for n in range(width))
    rows: list[tuple[Any, ...]] = []
    inner = [(key, _of_list(_items(value), title, zone)) for key, value in result.items()]
    names = tuple(dict.fromkeys(name for _, part in inner for name in part.columns)) or (title,)
    formats: dict[str, str] = {}
    for key, part in inner:
        formats |= part.formats
        at = [part.columns.index(name) if name in part.columns else None for name in names]
        keys = key if isinstance(key, tuple) else (key,)
        rows += [(*keys, *(None if n is None else row[n] for n in at)) for row in part.rows]
    names = tuple(f"{name} " if name in heads else name for name in names)
    formats |= {head: head for head in heads if head in _UNITS}
    bar = names[0] if len(names) == 1 and len(rows) > 1 and _positive([row[-1] for row in rows]) else None
    return Table((*heads, *names), rows, keys=len(heads), formats=formats, bar=bar, zone=zone)


def _positive(values: list[Any]) -> bool:
    return any(values) and all(
        value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0)
        for value in values
    )


def _of_list(items: list[Any], title: str, zone: str) -> Table:
    records = [_fields(item, title) for item in items]
    names = tuple(dict.fromkeys(name for record in records for name in record)) or (title,)
    rows = [tuple(record.get(name) for name in names) for record in records]
    return Table(names, rows, formats=_formats(items, names), zone=zone)


def _formats(items: list[Any], names: tuple[str, ...]) -> dict[str, str]:
    """Shares of our own results are shown in percent; a user's own property of such a name is not."""
    if not items or not (is_dataclass(items[0]) or (isinstance(items[0], Row) and "retention" in names)):
        return {}
    found = {name: "percent" for name in names if name in _FRACTIONS}
    if "change" in names:
        found |= {"change": "change", "percent": "change points"}
    elif "percent" in names:
        found["percent"] = "points"
    return found


def _fields(item: Any, title: str) -> dict[str, Any]:
    if isinstance(item, Record):
        found = {"position": item.position, "type": item.type, "timestamp": item.timestamp, "user": item.user}
        if item._entity is not None:
            found |= {"entity": item._entity, "version": item._version}
        if item._value is not None:
            found["value"] = item._value
        return found | {key if key not in found else f"data.{key}": value for key, value in item.data.items()}
    if isinstance(item, Mapping):
        return {str(key): item[key] for key in dict.keys(item)} if isinstance(item, Row) else dict(item)
    if hasattr(item, "_names"):
        return dict(zip(item._names, item, strict=True))
    if is_dataclass(item) and not isinstance(item, type):
        return {f.name: getattr(item, f.name) for f in fields(item) if not f.name.startswith("_")}
    return {title: item}


# for the eye


def view(result: Any, title: str = "result", heads: tuple[str, ...] = (), zone: str = "UTC") -> Table:
    """A result as a table to look at: cohorts as a triangle, goals with their bars, without what only
    programs need. Arguments as in `to_table`."""
    if isinstance(result, Mapping) and not isinstance(result, Row) and result:
        first = next(iter(result.values()))
        if is_cohorts(first):
            parts = [(key, _triangle(value, zone)) for key, value in result.items()]
            rows = [(key, *row) for key, part in parts for row in part.rows]
            widest = max((part for _, part in parts), key=lambda part: len(part.columns))
            rows = [row + (None,) * (len(widest.columns) + 1 - len(row)) for row in rows]
            head = heads[0] if len(heads) == 1 else "key"
            return Table((head, *widest.columns), rows, keys=2, formats=widest.formats, zone=zone)
    if is_cohorts(result):
        return _triangle(result, zone)
    table = to_table(result, title, heads, zone)
    if is_funnel(result):
        notes = (f"conversion {result.conversion:.1%}", *result.warnings)
        return _with(table, keys=1, bar="total_rate", notes=notes)
    if {"percent", "remaining", "status"} <= set(table.columns):
        shown = ("name", "status", "percent", "current", "target", "days_left", "projected", "probability")
        return _with(_columns(table, shown), keys=1, bar="percent")
    if _records(result):
        table = _columns(table, tuple(name for name in table.columns if name != "position"))
    return table


def _records(result: Any) -> bool:
    return isinstance(result, Record) or (
        isinstance(result, list) and bool(result) and isinstance(result[0], Record)
    )


def _with(table: Table, **changes: Any) -> Table:
    from dataclasses import replace

    return replace(table, **changes)


def _columns(table: Table, names: tuple[str, ...]) -> Table:
    names = tuple(name for name in names if name in table.columns)
    at = [table.columns.index(name) for name in names]
    return _with(table, columns=names, rows=[tuple(row[n] for n in at) for row in table.rows])


def _triangle(cohorts: Any, zone: str) -> Table:
    periods = max((len(cohort.retention) for cohort in cohorts.cohorts), default=0)
    valued = any(cohort.values is not None for cohort in cohorts.cohorts)
    names = ("cohort", "size", *(f"+{n}" for n in range(periods)), *(("per user",) if valued else ()))
    rows = []
    for cohort in cohorts.cohorts:
        worth = ()
        if valued:
            known = [value for value in cohort.values or () if value is not None]
            worth = (float(sum(known)) / cohort.size if cohort.size else None,)
        rows.append((cohort.start, cohort.size, *cohort.retention, *worth))
    formats = {"cohort": cohorts.granularity} | {f"+{n}": "share" for n in range(periods)}
    return Table(names, rows, keys=1, formats=formats, zone=zone)


# for data frames


def arrow_table(table: Table) -> Any:
    """A pyarrow Table. Instants are timestamps in the table's zone; values of mixed types, mappings and lists
    of those are JSON text."""
    import pyarrow as pa

    arrays = []
    for n in range(len(table.columns)):
        values = [row[n] for row in table.rows]
        if any(isinstance(value, datetime) for value in values):
            arrays.append(_instants(pa, values, table.zone))
            continue
        if not any(isinstance(value, Mapping) for value in values):
            try:
                arrays.append(pa.array(values))
                continue
            except (pa.ArrowException, OverflowError):
                pass
        arrays.append(pa.array([None if value is None else _json(value) for value in values], pa.string()))
    return pa.table(arrays, names=list(table.columns))


def _instants(pa: Any, values: list[Any], zone: str) -> Any:
    if any(value is not None and not isinstance(value, datetime) for value in values):
        return pa.array([None if value is None else _json(value) for value in values], pa.string())
    if any(value is not None and value.tzinfo is None for value in values):
        return pa.array(values, pa.timestamp("us"))
    return pa.array(values, pa.timestamp("us", zone))


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return value.isoformat() if isinstance(value, date) else str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return value.isoformat() if isinstance(value, date) else str(value)


def frame_pandas(table: Table) -> Any:
    """A pandas DataFrame; whole numbers with gaps are Int64, instants are in the table's zone.
    Raises BizError naming the extra where pandas is missing."""
    try:
        import pandas as pd
    except ImportError as error:
        raise BizError("df() needs pandas: pip install 'bizcode[pandas]'") from error
    frame = {}
    for n, _name in enumerate(table.columns):
        values = [row[n] for row in table.rows]
        known = [value for value in values if value is not None]
        if known and all(isinstance(value, datetime) and value.tzinfo is not None for value in known):
            frame[n] = pd.Series(pd.to_datetime(values, utc=True)).dt.tz_convert(table.zone)
        elif len(known) < len(values) and known and all(type(value) is int for value in known):
            frame[n] = pd.array(values, dtype="Int64")
        else:
            frame[n] = pd.Series(values, dtype=None if known else object)
    made = pd.DataFrame(frame)
    made.columns = list(table.columns)
    return made


def frame_polars(table: Table) -> Any:
    """A polars DataFrame. Raises BizError naming the extra where polars is missing."""
    try:
        import polars as pl
    except ImportError as error:
        raise BizError("pl() needs polars: pip install 'bizcode[polars]'") from error
    return pl.from_arrow(arrow_table(table))
