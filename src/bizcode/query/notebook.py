"""Tables for a notebook."""

from __future__ import annotations

import html

from .present import Table
from .text import cells, count_line, cut, shares

__all__ = ["html_table"]

MOST_ROWS = 60
_STYLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:3px 12px 3px 0;border:0;background:none;white-space:pre-wrap;"


def html_table(table: Table) -> str:
    """An HTML table; every text is escaped, bars are drawn behind the numbers."""
    rows, gap = cut(table, MOST_ROWS)
    texts, right = cells(table, rows)
    bars = shares(table, rows)
    at = table.columns.index(table.bar) if bars and table.bar else None
    sides = ["right" if numeric else "left" for numeric in right] or ["left"] * len(table.columns)
    head = "".join(
        f'<th scope="col" style="{_CELL}text-align:{side};border-bottom:1px solid #8886">{html.escape(name)}</th>'
        for name, side in zip(table.columns, sides, strict=True)
    )
    lines = []
    for n, row in enumerate(texts):
        if n == gap:
            lines.append(f'<tr><td colspan="{len(table.columns)}" style="{_CELL}">⋯</td></tr>')
        parts = []
        for k, (cell, side) in enumerate(zip(row, sides, strict=True)):
            style = f"{_CELL}text-align:{side};"
            if k == at and bars:
                share = f"{bars[n] * 100:.1f}%"
                style += (
                    f"padding-left:60px;background:linear-gradient(90deg,#2f5bea38 {share},#0000 {share});"
                )
            parts.append(f'<td style="{style}">{html.escape(cell)}</td>')
        lines.append(f"<tr>{''.join(parts)}</tr>")
    if not rows:
        lines.append(f'<tr><td colspan="{len(table.columns)}" style="{_CELL}">(nothing)</td></tr>')
    below = "".join(
        f'<p style="margin:4px 0;opacity:.7">{html.escape(note)}</p>'
        for note in (count_line(table, len(rows)), *table.notes)
        if note
    )
    return f'<table style="{_STYLE}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>{below}'
