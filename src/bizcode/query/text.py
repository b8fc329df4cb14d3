"""Tables for a terminal: aligned, cut to what fits, with small bars; and sparklines."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from .present import Table

__all__ = ["bar", "cells", "sparkline", "text", "text_table", "wide"]

MOST_ROWS = 40
_CELL = 60
_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR = 24


def text(value: Any) -> str:
    """A value for people, control characters made visible.

    >>> text(1234567), text(0.25), text(None), text(True)
    ('1,234,567', '0.25', '–', 'yes')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _elapsed(value)
    if isinstance(value, Mapping):
        return _visible(", ".join(f"{key}: {text(item)}" for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return _visible(", ".join(text(item) for item in value))
    return _visible(str(value))


def _visible(given: str) -> str:
    """What a terminal would obey is shown instead."""
    if given.isprintable():
        return given
    return "".join(c if c.isprintable() else " " if c in "\n\t\r" else f"\\x{ord(c):02x}" for c in given)


def _elapsed(value: timedelta) -> str:
    seconds = value.total_seconds()
    if 0 < abs(seconds) < 1:
        return f"{seconds * 1e3:.3g}ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e6:.0f}µs"
    if abs(seconds) < 60:
        return f"{seconds:.3g}s"
    rest, parts = int(abs(seconds)), []
    for name, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size}{name}")
            rest %= size
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def cells(table: Table, rows: Sequence[tuple[Any, ...]]) -> tuple[list[list[str]], list[bool]]:
    """The texts of the rows, and for each column whether it is aligned to the right."""
    columns, right = [], []
    for n, name in enumerate(table.columns):
        values = [row[n] for row in rows]
        known = [value for value in values if value is not None]
        shown = _format(table.formats.get(name), n < table.keys, known)
        columns.append([" " if v is None and name.startswith("+") else shown(v) for v in values])
        numeric = bool(known) and all(
            isinstance(v, (int, float, timedelta)) and not isinstance(v, bool) for v in known
        )
        right.append(numeric)
    return [list(row) for row in zip(*columns, strict=True)], right


def _format(how: str | None, key: bool, known: list[Any]) -> Callable[[Any], str]:
    """One way for a whole column, so that its values line up."""
    if known and all(isinstance(value, date) for value in known):
        return _moments(how, known)
    if not known or not all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in known
    ):
        return text
    if key:
        return lambda value: "–" if value is None else str(value)
    if how in ("percent", "share"):
        digits = 0 if how == "share" else 1
        return lambda value: "–" if value is None else f"{value * 100:.{digits}f} %"
    sign = "+" if how in ("change", "change points") else ""
    suffix = " %" if how in ("points", "change points") else ""
    digits = 1 if suffix else _digits(known)
    return lambda value: "–" if value is None else f"{value:{sign},.{digits}f}{suffix}"


def _digits(known: list[Any]) -> int:
    if all(isinstance(value, int) for value in known):
        return 0
    largest = max(abs(value) for value in known)
    return 2 if largest >= 1 or largest == 0 else 4


def _moments(how: str | None, known: list[Any]) -> Callable[[Any], str]:
    if how == "year":
        return lambda value: text(value) if not isinstance(value, date) else f"{value:%Y}"
    if how == "quarter":
        return lambda v: text(v) if not isinstance(v, date) else f"{v:%Y}-Q{(v.month + 2) // 3}"
    if how == "month":
        return lambda value: text(value) if not isinstance(value, date) else f"{value:%Y-%m}"
    times = [value for value in known if isinstance(value, datetime)]
    if not times or all(value.time() == datetime.min.time() for value in times):
        return lambda value: text(value) if not isinstance(value, date) else f"{value:%Y-%m-%d}"
    form = (
        "%Y-%m-%d %H:%M:%S" if any(value.second or value.microsecond for value in times) else "%Y-%m-%d %H:%M"
    )
    if how and len({value.utcoffset() for value in times}) > 1:
        form += " %z"
    return lambda value: text(value) if not isinstance(value, date) else value.strftime(form)


def cut(table: Table, most: int) -> tuple[list[tuple[Any, ...]], int | None]:
    """The rows to show, and where among them a gap stands (None: nothing is left out in between)."""
    if table.total is not None or len(table.rows) <= most:
        return table.rows[:most], None
    return [*table.rows[: most - most // 3], *table.rows[-(most // 3) :]], most - most // 3


def count_line(table: Table, shown: int) -> str | None:
    """The sentence below a table that is not shown wholly."""
    total = table.total if table.total is not None else len(table.rows)
    return f"{shown:,} of {total:,} rows" if total > shown else None


def shares(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[float] | None:
    """How full the bar of each row is, 0 to 1; None where the table has no bars."""
    if table.bar is None or table.bar not in table.columns:
        return None
    at = table.columns.index(table.bar)
    values = [row[at] or 0 for row in rows]
    how = table.formats.get(table.bar)
    full = (
        100
        if how == "points"
        else 1
        if how == "percent"
        else max([row[at] or 0 for row in table.rows] or [0])
    )
    return [min(1.0, value / full) if full else 0.0 for value in values]


def text_table(table: Table, width: int | None = None) -> str:
    """Aligned columns, numbers to the right, small bars; a long table is cut in its middle, a wide one to the
    width given, with a count of what is left out.

    >>> print(text_table(Table(("plan", "count"), [("pro", 2), ("free", 11)], keys=1)))
    plan  count
    ────  ─────
    pro       2
    free     11
    """
    rows, gap = cut(table, MOST_ROWS)
    texts, right = cells(table, rows)
    texts = [[_clip(cell) for cell in row] for row in texts]
    widths = [max([wide(name), *(wide(row[n]) for row in texts)]) for n, name in enumerate(table.columns)]
    fit = _fitting(widths, width)
    bars = shares(table, rows) if fit == len(widths) else None
    if width is not None and sum(widths) + 2 * len(widths) + _BAR > width:
        bars = None

    def line(parts: Sequence[str], end: str = "") -> str:
        padded = []
        for part, size, numeric in list(zip(parts, widths, right, strict=True))[:fit]:
            space = " " * (size - wide(part))
            padded.append(space + part if numeric else part + space)
        return ("  ".join(padded) + end).rstrip()

    lines = [line(table.columns), "  ".join("─" * size for size in widths[:fit])]
    for n, row in enumerate(texts):
        if n == gap:
            lines.append("⋯")
        lines.append(line(row, f"  {bar(bars[n], _BAR)}" if bars else ""))
    if not rows:
        lines.append("(nothing)")
    below = [count_line(table, len(rows))]
    if fit < len(widths):
        below.append(f"not shown: {', '.join(table.columns[fit:])}")
    return "\n".join([*lines, *(note for note in (*below, *table.notes) if note)])


def _fitting(widths: list[int], width: int | None) -> int:
    if width is None:
        return len(widths)
    used = 0
    for n, size in enumerate(widths):
        used += size + (2 if n else 0)
        if used > width and n:
            return n
    return len(widths)


def _clip(cell: str) -> str:
    return cell if len(cell) <= _CELL else cell[: _CELL - 1] + "…"


def wide(given: str) -> int:
    """Columns of a terminal that a text takes: two for wide characters, none for combining ones."""
    if given.isascii():
        return len(given)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in given
    )


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
        " " if v is None else _SPARKS[round((v - low) / span * (len(_SPARKS) - 1))] for v in values
    )


def bar(share: float, width: int = _BAR) -> str:
    """A bar that fills a share of its width, to an eighth of a character.

    >>> bar(0.5, 4), bar(0.28, 4)
    ('██', '█▏')
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[part] if part else "")
