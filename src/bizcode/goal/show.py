"""Goals in the terminal: a bar for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..query.charts import short
from .progress import Progress

__all__ = ["bars"]

_TONES = {
    "achieved": "green",
    "on-track": "green",
    "open": "blue",
    "at-risk": "yellow",
    "off-track": "red",
    "missed": "red",
}
_BAR = 24


def bars(goals: Sequence[Progress], owners: dict[str, str | None] | None = None) -> Any:
    """A table of the goals' names, bars, values, what is left of their time and their status, for rich to print. A
    compound goal's targets stand below it."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("goal", "", "", "value", "projected", "left", "status"):
        table.add_column(head, justify="right" if head in ("left",) else "left", no_wrap=True)

    def add(progress: Progress, name: str) -> None:
        tone = _TONES[progress.status]
        values = projected = ""
        if progress.target is not None:
            now = "none" if progress.current is None else short(progress.current)
            values = f"{now} of {short(progress.target)}"
        if progress.projected is not None:
            projected = short(progress.projected)
        left = progress.days_left
        table.add_row(
            Text(name),
            ProgressBar(total=100, completed=progress.percent, width=_BAR, complete_style=tone),
            f"{progress.percent:.0f} %",
            values,
            projected,
            "" if left is None else f"{left} d" if left >= 0 else "over",
            Text(progress.status, style=tone),
        )
        for n, part in enumerate(progress.targets or (), 1):
            add(part, f"  {n}.")

    for goal in goals:
        owner = (owners or {}).get(goal.name)
        add(goal, f"{goal.name} ({owner})" if owner else goal.name)
    return table
