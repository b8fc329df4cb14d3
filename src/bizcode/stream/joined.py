"""Two sides by key within a bound of time. State: "<key as text>" -> what may still match."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from .element import Element, Late, as_value, key_text, plain
from .state import Scoped
from .steps import Join

__all__ = ["Joined"]


class Joined:
    """One join. An entry is [time, order, origin, fields, matched].

    Args:
        call: calls the user's function, with retries; None if it failed for good.
    """

    def __init__(self, join: Join, state: Scoped, call: Callable[..., Any]) -> None:
        self._join = join
        self._state = state
        self._call = call
        state.loader(self._load)

    def _load(self) -> None:
        self._due: list[tuple[int, str]] = []
        self._kept = 0
        for place, kept in self._state.items():
            self._kept += 1
            for side in kept["sides"]:
                for entry in side:
                    heapq.heappush(self._due, (entry[0] + self._join.within, place))

    def take(self, side: int, element: Element, watermark: int) -> Iterator[Element]:
        """One element of the left (0) or right (1) side."""
        join = self._join
        if element.time + join.within < watermark and join.kind != "inner":
            raise Late
        place = key_text(element.key)
        kept = self._state.get(place)
        if kept is None:
            kept = {"key": element.key, "names": element.names, "sides": [[], []]}
            self._kept += 1
        entry = [element.time, element.order, element.origin, plain(element.value), False]
        pairs = []
        if join.kind != "group":
            for other in kept["sides"][1 - side]:
                if abs(other[0] - element.time) <= join.within:
                    left, right = (entry, other) if side == 0 else (other, entry)
                    left[4] = True
                    pairs.append((left, right))
        kept["sides"][side].append(entry)
        self._state.put(place, kept)
        heapq.heappush(self._due, (element.time + join.within, place))
        for left, right in pairs:
            yield from self._emit(kept, left, right)

    def _emit(self, kept: dict[str, Any], left: list[Any], right: list[Any] | None) -> Iterator[Element]:
        given = as_value(left[3]), None if right is None else as_value(right[3])
        time = left[0] if right is None else max(left[0], right[0])
        order = left[1] if right is None else max(left[1], right[1])
        key, names = _key(kept), tuple(kept["names"])
        value = self._call(self._join.function, given, Element(given, time, order, None, key, names))
        if value is not None:
            yield Element(as_value(value), time, order, None, key, names)

    def advance(self, watermark: int) -> Iterator[Element]:
        """Unmatched lefts and whole clusters whose time has passed; drop what can no longer match."""
        places = set()
        while self._due and self._due[0][0] < watermark:
            places.add(heapq.heappop(self._due)[1])
        within = self._join.within
        for place in sorted(places):
            kept = self._state.get(place)
            if kept is None:
                continue
            if self._join.kind == "group":
                yield from self._clusters(place, kept, watermark)
                continue
            if self._join.kind == "left":
                for entry in sorted(kept["sides"][0], key=lambda e: (e[0], e[1])):
                    if not entry[4] and entry[0] + within < watermark:
                        entry[4] = True
                        yield from self._emit(kept, entry, None)
            self._replace(
                place, kept, [[e for e in side if e[0] + within >= watermark] for side in kept["sides"]]
            )

    def _replace(self, place: str, kept: dict[str, Any], sides: list[list[Any]]) -> None:
        if any(sides):
            self._state.put(place, {**kept, "sides": sides})
        else:
            self._state.drop(place)
            self._kept -= 1

    def _clusters(self, place: str, kept: dict[str, Any], watermark: int) -> Iterator[Element]:
        within = self._join.within
        entries = sorted(
            [(e[0], e[1], side, e) for side in (0, 1) for e in kept["sides"][side]], key=lambda x: x[:3]
        )
        clusters: list[list[Any]] = []
        for item in entries:
            if clusters and item[0] - clusters[-1][-1][0] <= within:
                clusters[-1].append(item)
            else:
                clusters.append([item])
        left_over: list[list[Any]] = [[], []]
        key, names = _key(kept), tuple(kept["names"])
        for cluster in clusters:
            last = cluster[-1]
            if last[0] + within >= watermark:
                for _, _, side, entry in cluster:
                    left_over[side].append(entry)
                heapq.heappush(self._due, (last[0] + within, place))
                continue
            sides = tuple([as_value(e[3]) for _, _, s, e in cluster if s == side] for side in (0, 1))
            value = self._call(self._join.function, sides, Element(sides, last[0], last[1], None, key, names))
            if value is not None:
                yield Element(as_value(value), last[0], last[1], None, key, names)
        if left_over != kept["sides"]:
            self._replace(place, kept, left_over)

    def next_end(self) -> int | None:
        """When something is due next by the watermark alone."""
        if self._join.kind == "inner" or not self._due:
            return None
        return self._due[0][0] + 1

    def retract(self, origin: int) -> None:
        """Take a record out of what may still match."""
        for place, kept in self._state.items():
            sides = [[e for e in side if e[2] != origin] for side in kept["sides"]]
            if sides != kept["sides"]:
                self._replace(place, kept, sides)

    def open(self) -> int:
        """How many keys are kept."""
        return self._kept


def _key(kept: dict[str, Any]) -> Any:
    key = kept["key"]
    return tuple(key) if isinstance(key, list) and len(kept["names"]) > 1 else key
