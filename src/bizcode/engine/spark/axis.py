"""How times lie on the axis of Spark's watermark, which can't be below zero: in microseconds since the year 1, or finer.

Spark counts a watermark in milliseconds. Where it must say to the microsecond what has ended, each of these is given
three of its milliseconds; there is room for that within ninety years, and before and after them it says so a little later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Reach", "Spans", "axis", "fine", "fine_sql"]

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_800_000_000
_FROM, _TO = 315_532_800_000_000, 3_155_760_000_000_000
"""The year 1, the year 10,000; 1980, 2070."""
FINE = 3_000
_PIECES = ((_FIRST, _FROM, 1), (_FROM, _TO, FINE), (_TO, _LAST, 1))


def axis(us: int) -> int:
    """Microseconds since the year 1."""
    return max(0, us - _FIRST)


def fine(us: int) -> int:
    """The same, finer where most times are; never falling."""
    return sum(scale * (min(max(us, low), high) - low) for low, high, scale in _PIECES)


def fine_sql(us: str) -> str:
    """`fine` in Spark's SQL, of an expression."""
    return " + ".join(
        f"{scale} * (least(greatest({us}, {low}), {high}) - ({low}))" for low, high, scale in _PIECES
    )


@dataclass(frozen=True, slots=True)
class Spans:
    """How a time falls into a span: so long ones side by side, or between edges."""

    size: int
    edges: tuple[int, ...] = ()

    def of(self, times: Any) -> tuple[Any, Any]:
        """Start and end of each time's span."""
        import numpy

        if not self.edges:
            starts = times - times % self.size
            return starts, starts + self.size
        bounds = numpy.array(self.edges)
        at = numpy.searchsorted(bounds, times, side="right") - 1
        return bounds[at], bounds[at + 1]

    def axis(self, us: int) -> int:
        return axis(us)


@dataclass(frozen=True, slots=True)
class Reach:
    """How long a time is of use to a join: so long after it, the end included."""

    bound: int

    def of(self, times: Any) -> tuple[Any, Any]:
        """Each time, and the first instant that it is of no use for."""
        return times, times + self.bound + 1

    def axis(self, us: int) -> int:
        return fine(us)
