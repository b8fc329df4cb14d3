"""Accumulators out of which values are taken again, for views."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .accumulator import Accumulator, Edge, Extreme, accumulator
from .aggregation import Aggregation
from .condition import is_number

__all__ = ["RESERVE", "Reserved", "removable", "reserved"]


class _Extremes(Extreme):
    """State: how often each number and each text is there, and the best of each; a best of None isn't known. Any
    value can be taken out."""

    __slots__ = ()

    def new(self) -> Any:
        return [{}, {}, None, None]

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        if place is None:
            return
        counts = state[place]
        known = state[2 + place]
        if not counts or (known is not None and self._best(known, value) == value):
            state[2 + place] = value
        counts[value] = counts.get(value, 0) + 1

    def merge(self, state: Any, other: Any) -> None:
        for place in (0, 1):
            for value, times in other[place].items():
                self.add(state, value, 0, 0)
                state[place][value] += times - 1

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        if place is None:
            return True
        left = state[place][value] - 1
        if left:
            state[place][value] = left
        else:
            del state[place][value]
            if value == state[2 + place]:
                state[2 + place] = None
        return True

    def result(self, state: Any) -> Any:
        for place in (0, 1):
            if state[place]:
                if state[2 + place] is None:
                    state[2 + place] = self._best(state[place])
                return self._shown(state[2 + place])
        return None


class _Edges(Edge):
    """State: (time, order) -> value of each, and which of them is the first, or the last, under None. Any can be
    taken out."""

    __slots__ = ()

    def new(self) -> Any:
        return {}

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        if value is None:
            return
        at = (time, order)
        known = state.get(None)
        if (known is None and not state) or (
            known is not None and (at < known) is (self.made.operation == "first")
        ):
            state[None] = at
        state[at] = value

    def merge(self, state: Any, other: Any) -> None:
        for at, value in other.items():
            if at is not None:
                self.add(state, value, *at)

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        if value is not None:
            del state[time, order]
            if state.get(None) == (time, order):
                del state[None]
        return True

    def result(self, state: Any) -> Any:
        if not state:
            return None
        at = state.get(None)
        if at is None:
            at = state[None] = (min if self.made.operation == "first" else max)(state)
        return self._shown(state[at])


RESERVE = 8
"""So many of the best values a reserved state has at most."""


class Reserved(Extreme):
    """State, for numbers and for texts: the best values, the best of all first, and whether there are no others. The
    best of what is left is known as long as one of them is (K. Yi et al., "Efficient Maintenance of Materialized
    Top-k Views", ICDE 2003)."""

    __slots__ = ()

    def new(self) -> Any:
        return [[[], True], [[], True]]

    def add(self, state: Any, value: Any, time: int, order: int) -> None:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        if place is None:
            return
        part = state[place]
        best = part[0]
        if len(best) == RESERVE and self._behind(value, best[-1]):
            part[1] = False
        elif part[1] or (best and not self._behind(value, best[-1])):
            insort(best, value, key=self._rank(place))
            if len(best) > RESERVE:
                best.pop()
                part[1] = False

    def known(self, state: Any, place: int, values: Iterable[Any], all: bool) -> None:
        """Begin a state with its best values; `all`: there are no others."""
        state[place] = [sorted(values, key=self._rank(place))[:RESERVE], all]

    def _behind(self, value: Any, other: Any) -> bool:
        return value != other and self._best(value, other) == other

    def _rank(self, place: int) -> Callable[[Any], Any]:
        if self.made.operation == "min":
            return _same
        return _negative if place == 0 else _Backwards

    def many(self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int]) -> None:
        for value in values:
            self.add(state, value, 0, 0)

    def column(
        self, state: Any, values: Sequence[Any], times: Sequence[int], orders: Sequence[int], reading: str
    ) -> None:
        self.many(state, values, times, orders)

    def merge(self, state: Any, other: Any) -> None:
        for place in (0, 1):
            mine, theirs = state[place], other[place]
            rank = self._rank(place)
            # Beyond the last that one side knows, values of that side are unknown.
            bounds = [part[0][-1] for part in (mine, theirs) if not part[1] and part[0]]
            values = sorted([*mine[0], *theirs[0]], key=rank)
            if not all(part[1] or part[0] for part in (mine, theirs)):
                values = []
            for bound in bounds:
                values = [value for value in values if not self._behind(value, bound)]
            state[place] = [values[:RESERVE], mine[1] and theirs[1] and len(values) <= RESERVE]

    def remove(self, state: Any, value: Any, time: int, order: int) -> bool:
        place = 0 if is_number(value) else 1 if isinstance(value, str) else None
        if place is None:
            return True
        best, all = state[place]
        if not best or self._behind(value, best[-1]):
            return bool(best)
        if value not in best:
            return False  # an int beyond a double's digits, which was read as one
        best.remove(value)
        return all or bool(best)

    def result(self, state: Any) -> Any:
        numbers, texts = state[0][0], state[1][0]
        return self._shown(numbers[0] if numbers else texts[0] if texts else None)


class _Backwards:
    """A text that sorts the other way round."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Backwards) -> bool:
        return other.text < self.text


def _same(value: Any) -> Any:
    return value


def _negative(value: Any) -> Any:
    return -value


_REMOVABLE = {"min": _Extremes, "max": _Extremes, "first": _Edges, "last": _Edges}


def removable(made: Aggregation) -> Accumulator:
    """An accumulator whose `remove` can always tell what is left. Its states hold every value, and are not for
    keeping: they are no JSON."""
    kind = _REMOVABLE.get(made.operation)
    return accumulator(made) if kind is None else kind(made)


def reserved(made: Aggregation) -> Accumulator:
    """An accumulator whose `remove` can mostly tell what is left of extremes: its states hold a few values more."""
    return Reserved(made) if made.operation in ("min", "max") else accumulator(made)
