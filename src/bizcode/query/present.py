"""How results are shown: one table of names and rows, as text, HTML, data frame or chart."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

from ..errors import BizError
from ..record import Record

__all__ = [
    "Table",
    "arrow_table",
    "bar",
    "frame_pandas",
    "frame_polars",
    "html_table",
    "plot",
    "sparkline",
    "text_table",
    "to_table",
]

MOST_ROWS = 40
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of plain Python values."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def to_table(result: Any, title: str = "result") -> Table:
    """Any result as a table: a value is one row, a mapping one row per key, a list one row per item."""
    if isinstance(result, Mapping) and type(result).__name__ != "Row":
        return _of_mapping(result, title)
    if isinstance(result, (list, tuple)) and not hasattr(result, "_names"):
        return _of_list(list(result), title)
    if is_dataclass(result) and not isinstance(result, type):
        inner = _inner(result)
        if inner is not None:
            return _of_list(inner, title)
    return _of_list([result], title)


def _inner(result: Any) -> list[Any] | None:
    """The rows within a result that is a list of its own: a funnel's steps, the cohorts."""
    for name in ("steps", "cohorts"):
        found = getattr(result, name, None)
        if isinstance(found, list):
            return found
    return None


def _of_mapping(result: Mapping[Any, Any], title: str) -> Table:
    rows: list[tuple[Any, ...]] = []
    names: list[str] = []
    width = 1
    for key, value in result.items():
        keys = key if isinstance(key, tuple) else (key,)
        width = max(width, len(keys))
        part = to_table(value, title)
        names = names or list(part.columns)
        rows += [(*keys, *row) for row in part.rows]
    heads = ["key"] if width == 1 else [f"key {n + 1}" for n in range(width)]
    return Table((*heads, *(names or [title])), rows)


def _of_list(items: list[Any], title: str) -> Table:
    if not items:
        return Table((title,), [])
    records = [_fields(item, title) for item in items]
    names = list(dict.fromkeys(name for record in records for name in record))
    return Table(tuple(names), [tuple(record.get(name) for name in names) for record in records])


def _fields(item: Any, title: str) -> dict[str, Any]:
    if isinstance(item, Record):
        found = {"position": item.position, "type": item.type, "timestamp": item.timestamp, "user": item.user}
        if item._entity is not None:
            found |= {"entity": item._entity, "version": item._version}
        if item._value is not None:
            found["value"] = item._value
        return found | {key if key not in found else f"data.{key}": value for key, value in item.data.items()}
    if isinstance(item, Mapping):
        return {str(key): value for key, value in item.items()}
    if hasattr(item, "_names"):
        return dict(zip(item._names, item, strict=True))
    if is_dataclass(item) and not isinstance(item, type):
        return {f.name: getattr(item, f.name) for f in fields(item)}
    return {title: item}


def text(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d" if value.time() == datetime.min.time() else "%Y-%m-%d %H:%M:%S")
    if isinstance(value, (list, tuple)):
        return " ".join(text(item) for item in value)
    if isinstance(value, timedelta):
        return str(value - timedelta(microseconds=value.microseconds))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text(item)}" for key, item in value.items())
    return str(value)


def text_table(table: Table) -> str:
    """Aligned columns, numbers to the right; a long table is cut with a count of what is left out."""
    shown = table.rows[:MOST_ROWS]
    cells = [[text(value).replace("\n", " ")[:60] for value in row] for row in shown]
    widths = [
        max(len(name), *(len(row[n]) for row in cells)) if cells else len(name)
        for n, name in enumerate(table.columns)
    ]
    right = [
        all(isinstance(row[n], (int, float)) or row[n] is None for row in shown) and bool(shown)
        for n in range(len(table.columns))
    ]

    def line(parts: Sequence[str]) -> str:
        padded = [p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    lines = [line(table.columns), "  ".join("─" * width for width in widths), *map(line, cells)]
    if len(table.rows) > MOST_ROWS:
        lines.append(f"… and {len(table.rows) - MOST_ROWS:,} more rows")
    if not table.rows:
        lines.append("(nothing)")
    return "\n".join(lines)


def html_table(table: Table) -> str:
    """An HTML table for notebooks; every text is escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text(value))}</td>" for value in row) + "</tr>"
        for row in table.rows[:MOST_ROWS]
    )
    more = len(table.rows) - MOST_ROWS
    foot = f"<p>… and {more:,} more rows</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def arrow_table(table: Table) -> Any:
    """A pyarrow Table; columns of mixed types as text."""
    import pyarrow as pa

    arrays = []
    for n in range(len(table.columns)):
        values = [row[n] for row in table.rows]
        try:
            arrays.append(pa.array(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays.append(pa.array([None if value is None else text(value) for value in values], pa.string()))
    return pa.table(arrays, names=list(table.columns))


def frame_pandas(table: Table) -> Any:
    """A pandas DataFrame. Raises BizError naming the extra where pandas is missing."""
    try:
        import pandas as pd
    except ImportError as error:
        raise BizError("df() needs pandas: pip install 'bizcode[pandas]'") from error
    return pd.DataFrame([list(row) for row in table.rows], columns=list(table.columns))


def frame_polars(table: Table) -> Any:
    """A polars DataFrame. Raises BizError naming the extra where polars is missing."""
    try:
        import polars as pl
    except ImportError as error:
        raise BizError("pl() needs polars: pip install 'bizcode[polars]'") from error
    return pl.from_arrow(arrow_table(table))


def sparkline(values: Sequence[float | None]) -> str:
    """A small chart in one line.

    >>> sparkline([1, 5, None, 3])
    '▁█ ▅'
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = (high - low) or 1
    return "".join(
        " " if v is None else _BLOCKS[round((v - low) / span * (len(_BLOCKS) - 1))] for v in values
    )


def bar(share: float, width: int = 24) -> str:
    """A bar that fills a share of its width.

    >>> bar(0.5, 4)
    '██░░'
    """
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def plot(result: Any, title: str) -> Any:
    """A chart of a result. Raises BizError naming the extra where altair is missing, or where there is nothing to draw."""
    from .charts import chart

    return chart(result, title)


def is_time(value: Any) -> bool:
    """Whether a key is a point in time."""
    return isinstance(value, date)
