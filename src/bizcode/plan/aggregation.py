"""Named aggregations of views and streams: `biz.count()`, `biz.sum("total")`, ..."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidQuery
from .condition import is_number
from .fields import Field, as_field, read

__all__ = ["NAMES", "Aggregation", "aggregation", "quantile", "value_of"]

NAMES = ("count", "sum", "avg", "min", "max", "first", "last", "collect", "distinct", "percentile", "stddev")
_NEEDS = frozenset(NAMES) - {"count", "collect"}


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One number (or list) of a group. `argument` is the percentile's p."""

    operation: str
    field: Field | None = None
    argument: float | None = None

    def __repr__(self) -> str:
        parts = [repr(self.argument)] if self.argument is not None else []
        parts += [repr(str(self.field))] if self.field is not None else []
        return f"biz.{self.operation}({', '.join(parts)})"


def aggregation(operation: str, field: Any = None, argument: Any = None) -> Aggregation:
    """A checked aggregation. Raises InvalidQuery."""
    if operation in _NEEDS and field is None:
        raise InvalidQuery(f"biz.{operation}() needs the name of a field")
    if operation == "percentile":
        if not is_number(argument) or not 0 <= argument <= 100:
            raise InvalidQuery(f"biz.percentile(p, field) takes p from 0 to 100, not {argument!r}")
        argument = float(argument)
    return Aggregation(operation, None if field is None else as_field(field), argument)


def value_of(element: Any, field: Field) -> Any:
    """A field of an element; `timestamp` means the record's own."""
    if field.path == ("timestamp",):
        moment = getattr(element, "timestamp", None)
        if moment is not None:
            return moment
    return read(element, field)


def quantile(values: list[float], p: float) -> float:
    """Linear interpolation between the closest ranks."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * p / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
