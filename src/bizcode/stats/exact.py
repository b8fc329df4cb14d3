"""Sums that don't depend on the order of what is added, and from which what was added can be taken again.

A double is a whole number of some power of two, so a sum of doubles is one too: it is kept as that number.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Exact"]


class Exact:
    """An exact sum: `units` / 2 ** `scale`. A scale of 0 says that only integers were added.

    >>> total = Exact.of([0.1, 0.2, 1e16, -1e16])
    >>> total.add(Exact.of([0.2]), -1)
    >>> total.value
    0.1
    """

    __slots__ = ("scale", "units")

    def __init__(self, units: int = 0, scale: int = 0) -> None:
        self.units = units
        self.scale = scale

    @staticmethod
    def of(values: Iterable[int | float]) -> Exact:
        """The sum of finite numbers."""
        whole = 0
        parts: dict[int, int] = {}
        for value in values:
            if isinstance(value, int):
                whole += value
            else:
                units, below = value.as_integer_ratio()
                parts[below] = parts.get(below, 0) + units
        found = Exact(whole)
        for below, units in parts.items():
            found._add(units, below.bit_length() - 1)
        if parts and not found.scale:
            found.units, found.scale = found.units * 2, 1
        return found

    def add(self, other: Exact, times: int = 1) -> None:
        """Add another sum; with times=-1 take it away."""
        self._add(other.units * times, other.scale)

    def _add(self, units: int, scale: int) -> None:
        if scale > self.scale:
            self.units <<= scale - self.scale
            self.scale = scale
        self.units += units << (self.scale - scale)

    @property
    def value(self) -> int | float:
        """The sum: an int of ints, else the nearest double."""
        if not self.scale:
            return self.units
        try:
            return self.units / (1 << self.scale)
        except OverflowError:
            return float("inf") if self.units > 0 else float("-inf")

    def dump(self) -> list[int | str]:
        """As a JSON value."""
        small = -(2**63) <= self.units < 2**63
        return [self.units if small else hex(self.units), self.scale]

    @staticmethod
    def parse(kept: list[int | str]) -> Exact:
        units, scale = kept
        return Exact(int(units, 16) if isinstance(units, str) else units, int(scale))
