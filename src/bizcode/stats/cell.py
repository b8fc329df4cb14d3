"""What a rollup keeps of the samples of one bucket: numbers that add up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from .exact import Exact
from .sketch import Sketch

__all__ = ["Cell", "Latest"]


class Latest(NamedTuple):
    """A sample's place in time (ties by position) and its value."""

    time: int
    position: int
    value: int | float


class Cell:
    """Samples as count, exact sum, extremes, the latest one and, where wanted, a sketch. Cells add with `add`;
    what can't be taken away again (extremes, the latest) is set anew by whoever takes samples out."""

    __slots__ = ("count", "high", "last", "low", "sketch", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = Exact()
        self.low: int | float | None = None
        self.high: int | float | None = None
        self.last: Latest | None = None
        self.sketch: Sketch | None = None

    @staticmethod
    def of(samples: Iterable[tuple[int, int, Any]], sketched: bool = False) -> Cell:
        """The cell of some samples, at least one: (time, position, value)."""
        found = Cell()
        ordered = list(samples)
        values = [value for _, _, value in ordered]
        found.count = len(values)
        found.sum = Exact.of(values)
        found.low, found.high, found.last = min(values), max(values), Latest(*max(ordered))
        if sketched:
            found.sketch = Sketch()
            found.sketch.take(values)
        return found

    def add(self, other: Cell) -> None:
        """Take in another cell's samples."""
        self.count += other.count
        self.sum.add(other.sum)
        self.include(other)
        if other.sketch is not None:
            self.sketch = self.sketch or Sketch()
            self.sketch.add(other.sketch)

    def include(self, other: Cell) -> None:
        """Let the extremes and the latest sample reach those of another."""
        if other.low is not None:
            self.low = other.low if self.low is None else min(self.low, other.low)
        if other.high is not None:
            self.high = other.high if self.high is None else max(self.high, other.high)
        if other.last is not None:
            self.last = other.last if self.last is None else max(self.last, other.last)

    def take(self, other: Cell) -> bool:
        """Take a cell's samples out; True if an extreme or the latest sample may have been among them."""
        self.count -= other.count
        self.sum.add(other.sum, -1)
        if self.sketch is not None and other.sketch is not None:
            self.sketch.add(other.sketch, -1)
        return (
            (self.low is not None and other.low is not None and other.low <= self.low)
            or (self.high is not None and other.high is not None and other.high >= self.high)
            or (self.last is not None and other.last is not None and other.last >= self.last)
        )

    def forget(self) -> None:
        """Let go of the extremes and the latest sample."""
        self.low = self.high = self.last = None

    def dump(self, kept: frozenset[str]) -> bytes:
        """As JSON, what is kept of it only."""
        return orjson.dumps(
            [
                self.count,
                self.sum.dump() if "sum" in kept else None,
                self.low if "min" in kept else None,
                self.high if "max" in kept else None,
                list(self.last) if "last" in kept and self.last is not None else None,
                self.sketch.dump() if "percentiles" in kept and self.sketch is not None else None,
            ]
        )

    @staticmethod
    def parse(kept: bytes) -> Cell:
        found = Cell()
        held: list[Any] = orjson.loads(kept)
        found.count, total, found.low, found.high, last, sketch = held
        if total is not None:
            found.sum = Exact.parse(total)
        if last is not None:
            found.last = Latest(*last)
        if sketch is not None:
            found.sketch = Sketch.parse(sketch)
        return found
