"""Named aggregations of views and streams: `biz.count()`, `biz.sum("total")`, ..."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson

from ..errors import InvalidQuery
from .condition import is_number
from .fields import MISSING, Field, as_field, read

__all__ = ["NAMES", "Aggregation", "aggregation", "finish", "fold", "start"]

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


def _text(value: Any) -> Any:
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()


# An accumulator is a JSON value, so that it can be kept: a list or a number, folded element by element.


def start(made: Aggregation) -> Any:
    """The accumulator of no elements."""
    if made.operation == "count":
        return 0
    if made.operation in (
        "sum",
        "avg",
        "stddev",
        "min",
        "max",
        "first",
        "last",
        "collect",
        "distinct",
        "percentile",
    ):
        return []
    raise InvalidQuery(f"unknown aggregation {made.operation!r}")


def fold(made: Aggregation, state: Any, element: Any, order: tuple[int, int]) -> Any:
    """The accumulator with one more element; `order` is its time and position. What is kept is (order, value), so
    that the result does not depend on the order of arrival."""
    if made.operation == "count":
        return state + 1
    if made.field is None:
        value: Any = _plain(element)
    else:
        value = value_of(element, made.field)
        if value is MISSING or value is None:
            return state
    if made.operation in ("sum", "avg", "stddev", "percentile") and not is_number(value):
        return state
    if (
        made.operation in ("min", "max")
        and not is_number(value)
        and not isinstance(value, str)
        and not hasattr(value, "isoformat")
    ):
        return state
    state.append([order[0], order[1], value])
    return state


def _plain(element: Any) -> Any:
    return dict(element.data) if hasattr(element, "data") else element


def finish(made: Aggregation, state: Any) -> Any:
    """The result of an accumulator."""
    operation = made.operation
    if operation == "count":
        return state
    ordered = sorted(state, key=lambda entry: (entry[0], entry[1]))
    found = [entry[2] for entry in ordered]
    if operation == "collect":
        return found
    if operation == "distinct":
        return len({_text(value) for value in found})
    if operation == "sum":
        return _sum(found)
    if not found:
        return None
    if operation in ("first", "last"):
        return found[0] if operation == "first" else found[-1]
    if operation in ("min", "max"):
        numbers = [value for value in found if is_number(value)]
        return (min if operation == "min" else max)(numbers or found)
    if operation == "avg":
        return math.fsum(found) / len(found)
    if operation == "stddev":
        if len(found) < 2:
            return None
        mean = math.fsum(found) / len(found)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (len(found) - 1))
    return quantile(found, made.argument or 0.0)


def _sum(found: list[Any]) -> Any:
    return sum(found) if all(isinstance(value, int) for value in found) else math.fsum(found)


def quantile(values: list[float], p: float) -> float:
    """Linear interpolation between the closest ranks."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * p / 100
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
