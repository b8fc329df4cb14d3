"""An answer beside the one before."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one question: now, and in the previous range.

    `change` is current - previous, `percent` is 20.0 for a rise by a fifth; None where they can't be told.
    """

    current: Any
    previous: Any
    change: Any
    percent: float | None


def compare(current: Any, previous: Any) -> Comparison:
    """
    >>> compare(120, 100)
    Comparison(current=120, previous=100, change=20, percent=20.0)
    >>> compare(5, 0).percent is None
    True
    """
    if not _number(current) or not _number(previous):
        return Comparison(current, previous, None, None)
    change = current - previous
    return Comparison(current, previous, change, change / abs(previous) * 100 if previous else None)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
