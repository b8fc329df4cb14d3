"""The question how an experiment stood at the end of each day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..query import Lazy
from ..query.present import Table
from .results import VARIANT_COLUMNS, DayResults, variant_rows

__all__ = ["DailyQuery"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class DailyQuery(Lazy[list[DayResults]]):
    """Cumulative results by day; see `ResultsQuery.daily`."""

    def table(self) -> Table:
        """One row for each day and variant."""
        rows = [(found.day, *row) for found in self.run() for row in variant_rows(found.variants)]
        return Table(("day", "variant", *VARIANT_COLUMNS), rows)

    def plot(self) -> Any:
        """Each variant's lift with its interval, and below it the p-values, over the days.
        Needs `pip install bizcode[plot]`."""
        from ..query.evidence import over_time

        return over_time(self.run(), self.name)
