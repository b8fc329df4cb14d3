"""A mergeable sketch of percentiles with a bound on the relative error of each value.

C. Masson, J. E. Rim, H. K. Lee, DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees, VLDB 2019. The mapping of values to keys is the authors' own (`ddsketch`); the counts are kept
sparsely and never collapsed, so the bound holds everywhere, and a value can be taken out again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

__all__ = ["ACCURACY", "Sketch"]

ACCURACY = 0.009
"""Relative error of each value, a little below the promised 1 %, so that rounding never passes it."""


@lru_cache(maxsize=1)
def _mapping() -> Any:
    from ddsketch.mapping import LogarithmicMapping

    return LogarithmicMapping(ACCURACY)


class Sketch:
    """Counts of values by the logarithm of their size, for each sign.

    >>> sketch = Sketch()
    >>> sketch.take([1.0, 2.0, 3.0])
    >>> round(sketch.percentile(50), 1)
    2.0
    """

    __slots__ = ("negative", "positive", "zeros")

    def __init__(self) -> None:
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}
        self.zeros = 0

    def take(self, values: Iterable[float], times: int = 1) -> None:
        """Add values; with times=-1 take them out."""
        mapping = _mapping()
        key, least = mapping.key, mapping.min_possible
        for value in values:
            if value > least:
                side, at = self.positive, key(value)
            elif value < -least:
                side, at = self.negative, key(-value)
            else:
                self.zeros += times
                continue
            side[at] = side.get(at, 0) + times

    def add(self, other: Sketch, times: int = 1) -> None:
        """Merge another sketch into this one; with times=-1 take it out."""
        self.zeros += other.zeros * times
        for mine, theirs in ((self.positive, other.positive), (self.negative, other.negative)):
            for at, count in theirs.items():
                mine[at] = mine.get(at, 0) + count * times

    def percentile(self, p: float) -> float | None:
        """The p-th percentile (0 to 100), interpolated linearly between the two nearest ranks; None if empty."""
        mapping = _mapping()
        ordered = [(-_size(mapping, at), self.negative[at]) for at in sorted(self.negative, reverse=True)]
        ordered.append((0.0, self.zeros))
        ordered += [(_size(mapping, at), self.positive[at]) for at in sorted(self.positive)]
        total = sum(count for _, count in ordered)
        if total <= 0:
            return None
        rank = (total - 1) * p / 100
        low = _at(ordered, math.floor(rank))
        high = _at(ordered, math.ceil(rank))
        return low + (high - low) * (rank - math.floor(rank))

    def dump(self) -> list[Any]:
        """As a JSON value."""
        return [self.zeros, _pairs(self.positive), _pairs(self.negative)]

    @staticmethod
    def parse(kept: list[Any]) -> Sketch:
        found = Sketch()
        found.zeros = kept[0]
        found.positive = dict(zip(kept[1][0], kept[1][1], strict=True))
        found.negative = dict(zip(kept[2][0], kept[2][1], strict=True))
        return found


def _size(mapping: Any, at: int) -> float:
    try:
        return min(mapping.value(at), sys.float_info.max)
    except OverflowError:
        return sys.float_info.max


def _at(ordered: list[tuple[float, int]], rank: int) -> float:
    seen = 0
    for value, count in ordered:
        seen += count
        if seen > rank:
            return value
    return ordered[-1][0]


def _pairs(counts: dict[int, int]) -> list[list[int]]:
    kept = sorted((at, count) for at, count in counts.items() if count)
    return [[at for at, _ in kept], [count for _, count in kept]]
