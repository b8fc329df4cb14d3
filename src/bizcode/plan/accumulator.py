"""Accumulators of the named aggregations: exact, and the same in whatever order and parts elements come.

An accumulator's state is a JSON value, so that it can be kept. Sums of floats are kept exactly, as partial sums
that don't overlap (J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
Predicates", Discrete & Computational Geometry 18, 1997) and rounded once, when they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from .. import when
from .aggregation import Aggregation, quantile, value_of
from .condition import is_number
from .fields import MISSING

__all__ = ["Accumulator", "Edge", "Extreme", "accumulator", "total"]

_LARGEST = 2**63
_UNFOLDED = 32
"""So many floats wait before they are folded into partial sums."""

_UTC = when.zone("UTC")


class Accumulator:
    """One aggregation's states. `add` and `merge` change the state that they are given.

    Args:
        made: the aggregation.
        path: the field that it reads, None for whole elements; "timestamp" means the record's own.
    """

    __slots__ = ("instants", "made")

    def __init__(self, made: Aggregation) -> None:
        self.made = made
        self.instants = made.field is not None and made.field.path == ("timestamp",)

    def new(self) -> Any:
        """The state of no elements."""
        return []

    def read(self, element: Any, time: int) -> Any:
        """What an element gives, None for nothing."""
        field = self.made.field
        if field is None:
            return dict(element.data) if hasattr(element, "data") else element
        found = value_of(element, field)
        if found is MISSING:
            return None
        if isinstance(found, datetime):
            return when.instant(found, _UTC) if self.instants else found.isoformat()
        return found

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        """One more value, None for none; `time` and `order` are its event time and place among equals."""
        raise AssertionError

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        """More values, none of them None, with their times and orders."""
        for value, time, order in zip(values, times, orders, strict=True):
            self.add(state, value, time, order)

    def column(
        self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int], reading: str
    ) -> None:
        """As many(), of values that are all of one type: "int", "double", "text" or others."""
        self.many(state, values, times, orders)

    def merge(self, state: Any, other: Any) -> None:
        """Everything of another state too."""
        raise AssertionError

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        """Take a value out again; False where the state can't tell what is left, and must be made anew."""
        raise AssertionError

    def result(self, state: Any) -> Any:
        """The number, or list, of a state."""
        raise AssertionError

    def _shown(self, value: Any) -> Any:
        return when.to_datetime(value) if self.instants and isinstance(value, int) else value


class _Count(Accumulator):
    __slots__ = ()

    def new(self) -> Any:
        return [0]

    def read(self, element: Any, time: int) -> Any:
        return True

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        state[0] += 1

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        state[0] += len(times)

    def merge(self, state: Any, other: Any) -> None:
        state[0] += other[0]

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        state[0] -= 1
        return True

    def result(self, state: Any) -> Any:
        return state[0]


class _Sum(Accumulator):
    """State: how many numbers, the sum of the ints, the partial sums of the floats."""

    __slots__ = ()

    def new(self) -> Any:
        return [0, 0, []]

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if type(value) is int:
            state[0] += 1
            state[1] = _int(_big(state[1]) + value)
        elif is_number(value):
            state[0] += 1
            partials = state[2]
            partials.append(value)
            if len(partials) > _UNFOLDED:
                state[2] = _partials(partials, ()) or [0.0]

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        if all(type(value) is int for value in values):
            self.column(state, values, times, orders, "int")
        elif all(type(value) is float for value in values):
            self.column(state, values, times, orders, "double")
        else:
            for value in values:
                self.add(state, value, 0, 0)

    def column(
        self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int], reading: str
    ) -> None:
        if not values:
            return
        if reading == "int":
            state[0] += len(values)
            state[1] = _int(_big(state[1]) + sum(values))
        elif len(values) + len(state[2]) <= _UNFOLDED:
            state[0] += len(values)
            state[2] += values
        else:
            state[0] += len(values)
            state[2] = _partials(state[2], values) or [0.0]

    def merge(self, state: Any, other: Any) -> None:
        state[0] += other[0]
        state[1] = _int(_big(state[1]) + _big(other[1]))
        if other[2]:
            state[2] = _partials(state[2], other[2]) or [0.0]

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        if is_number(value):
            self.add(state, -value, time, order)
            state[0] -= 2
        return True

    def result(self, state: Any) -> Any:
        return total(_big(state[1]), state[2])


class _Average(_Sum):
    __slots__ = ()

    def result(self, state: Any) -> Any:
        return _Sum.result(self, state) / state[0] if state[0] else None


class Extreme(Accumulator):
    """State: the best number, the best of anything else that has an order. Numbers come first."""

    __slots__ = ("_best",)

    def __init__(self, made: Aggregation) -> None:
        super().__init__(made)
        self._best: Callable[..., Any] = min if made.operation == "min" else max

    def new(self) -> Any:
        return [None, None]

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        if place is not None:
            known = state[place]
            state[place] = value if known is None else self._best(known, value)

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        if values and all(type(value) in (int, float) for value in values):
            self.add(state, self._best(values), 0, 0)
        else:
            super().many(state, values, times, orders)

    def column(
        self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int], reading: str
    ) -> None:
        if reading not in ("int", "double", "text"):
            self.many(state, values, times, orders)
        elif values:
            self.add(state, self._best(values), 0, 0)

    def merge(self, state: Any, other: Any) -> None:
        for value in other:
            self.add(state, value, 0, 0)

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        return place is None or value != state[place]

    def result(self, state: Any) -> Any:
        return self._shown(state[1] if state[0] is None else state[0])


class Edge(Accumulator):
    """State: [time, order, value] of the first, or the last."""

    __slots__ = ()

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if value is None:
            return
        first = self.made.operation == "first"
        if not state or ((time, order) < (state[0], state[1])) is first:
            state[:] = [time, order, value]

    def merge(self, state: Any, other: Any) -> None:
        if other:
            self.add(state, other[2], other[0], other[1])

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        return value is None or state[:2] != [time, order]

    def result(self, state: Any) -> Any:
        return self._shown(state[2]) if state else None


class _Collect(Accumulator):
    """State: [time, order, value] of each."""

    __slots__ = ()

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if value is not None:
            state.append([time, order, value])

    def merge(self, state: Any, other: Any) -> None:
        state.extend(other)

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        state[:] = [entry for entry in state if (entry[0], entry[1]) != (time, order)]
        return True

    def result(self, state: Any) -> Any:
        return [self._shown(entry[2]) for entry in sorted(state, key=lambda entry: (entry[0], entry[1]))]


class _Distinct(Accumulator):
    """State: each value as text, and how often it was there."""

    __slots__ = ()

    def new(self) -> Any:
        return {}

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if value is not None:
            text = _text(value)
            state[text] = state.get(text, 0) + 1

    def merge(self, state: Any, other: Any) -> None:
        for text, times in other.items():
            state[text] = state.get(text, 0) + times

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        if value is not None:
            text = _text(value)
            left = state.get(text, 0) - 1
            if left > 0:
                state[text] = left
            else:
                state.pop(text, None)
        return True

    def result(self, state: Any) -> Any:
        return len(state)


class _Values(Accumulator):
    """State: all numbers, for what can't be told from less."""

    __slots__ = ()

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if is_number(value):
            state.append(value)

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        state.extend(value for value in values if is_number(value))

    def merge(self, state: Any, other: Any) -> None:
        state.extend(other)

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        if is_number(value):
            try:
                state.remove(value)
            except ValueError:
                return False  # among floats, an int beyond 2**53 was read as the float next to it
        return True

    def result(self, state: Any) -> Any:
        if self.made.operation == "percentile":
            return quantile(state, self.made.argument or 0.0) if state else None
        if len(state) < 2:
            return None
        try:
            mean = math.fsum(state) / len(state)
            return math.sqrt(math.fsum((value - mean) ** 2 for value in state) / (len(state) - 1))
        except OverflowError:
            return math.inf


_KINDS: dict[str, type[Accumulator]] = {
    "count": _Count,
    "sum": _Sum,
    "avg": _Average,
    "min": Extreme,
    "max": Extreme,
    "first": Edge,
    "last": Edge,
    "collect": _Collect,
    "distinct": _Distinct,
    "percentile": _Values,
    "stddev": _Values,
}


def accumulator(made: Aggregation) -> Accumulator:
    """The accumulator of an aggregation.

    >>> from .aggregation import aggregation
    >>> mean = accumulator(aggregation("avg", "x"))
    >>> state = mean.new()
    >>> mean.many(state, [0.1] * 10, range(10), range(10))
    >>> mean.result(state)
    0.1
    """
    return _KINDS[made.operation](made)


def total(ints: int, partials: Sequence[float]) -> int | float:
    """The sum of ints and of partial sums of floats, rounded once; an int where there were only ints."""
    if not partials:
        return ints
    try:
        return math.fsum((*partials, ints))
    except OverflowError:
        return math.inf if sum(partials) > 0 else -math.inf


def _partials(known: Sequence[float], values: Iterable[float]) -> list[float]:
    """Partial sums of the known ones and more values: rounded sums of what the former ones leave."""
    left = [*known, *values]
    if len(left) == 1:
        return left
    found: list[float] = []
    try:
        while rest := math.fsum(left):
            found.append(rest)
            left.append(-rest)
    except OverflowError:
        return [*known, *values]
    return found


def _int(value: int) -> int | str:
    """An int as JSON: text beyond 64 bits."""
    return value if -_LARGEST <= value < _LARGEST else str(value)


def _big(value: int | str) -> int:
    return int(value) if type(value) is str else value  # type: ignore[return-value]


def _text(value: Any) -> str:
    if type(value) is float and value.is_integer() and abs(value) < _LARGEST:
        value = int(value)
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()
