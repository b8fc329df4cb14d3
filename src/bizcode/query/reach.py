"""A number to reach: what `query.reach(100_000)` gives to a goal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidValue

__all__ = ["Reach", "reach"]

DIRECTIONS = ("above", "below")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reach:
    """A target: the query's value at or above (or at or below) a number."""

    query: Any
    target: float
    direction: str = "above"

    @property
    def label(self) -> str:
        """How it is told apart from another: the question and the number."""
        plan = getattr(self.query, "plan", None) or (
            getattr(self.query, "numerator", None),
            getattr(self.query, "denominator", None),
        )
        return f"{describe(plan)} {self.direction} {self.target:g}"

    def __repr__(self) -> str:
        what = getattr(self.query, "caption", None) or describe(self.query)
        return f"Reach({what} {self.direction} {self.target:,})"

    def met(self, value: Any) -> bool:
        """Whether a value reaches it."""
        if value is None:
            return False
        return value >= self.target if self.direction == "above" else value <= self.target


def describe(plan: Any) -> str:
    """A plan as text, functions by their name: stable over restarts."""
    if callable(plan) and hasattr(plan, "__qualname__"):
        return plan.__qualname__
    if isinstance(plan, tuple):
        return f"({', '.join(map(describe, plan))})"
    if hasattr(plan, "__dataclass_fields__"):
        parts = (f"{name}={describe(getattr(plan, name))}" for name in plan.__dataclass_fields__)
        return f"{type(plan).__name__}({', '.join(parts)})"
    return repr(plan)


def reach(query: Any, target: Any, direction: str = "above") -> Reach:
    """A checked target. Raises InvalidValue."""
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not math.isfinite(target):
        raise InvalidValue(f"reach() takes the number to reach, not {target!r}")
    if direction not in DIRECTIONS:
        raise InvalidValue(f"direction is 'above' or 'below', not {direction!r}")
    return Reach(query, target, direction)
