"""Two sides by key within a bound of time. State: "<key as text>" -> what may still match, and what was given."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from .element import Element, Late, as_value, gone, kept_of, key_text, value_of
from .state import Scoped
from .steps import Join, KeyBy

__all__ = ["Joined", "key_names"]

TIME, ORDER, ORIGIN, VALUE, MATCHES, ALONE, NUMBER, ID = range(8)
"""An entry. MATCHES: how many partners it has. ALONE: how often it was given without one, negative while it is not.
NUMBER: its own among the key's. ID: the result that it was, if it came out of a window."""


class Joined:
    """One join. What was given is taken back when an element that it was made of is, or has a partner after all.

    Args:
        call: calls the user's function, with retries; None if it failed for good.
        lateness: how long after its time an element still finds its partners.
    """

    def __init__(self, join: Join, state: Scoped, call: Callable[..., Any], lateness: int = 0) -> None:
        self._join = join
        self._state = state
        self._call = call
        self._names = key_names(join)
        self._lateness = lateness
        state.loader(self._load)

    def _load(self) -> None:
        self._due: list[tuple[int, str]] = []
        self._places: dict[str, str] = {}
        self._kept = 0
        for place, kept in self._state.items():
            self._kept += 1
            kept.setdefault("next", 0)
            kept.setdefault("groups", [])
            for side in kept["sides"]:
                for entry in side:
                    if len(entry) <= ALONE:  # kept by a version that could take nothing back
                        kept["next"] += 1
                        entry[MATCHES:] = [int(entry[MATCHES]), 0, kept["next"], None]
                    self._schedule(entry, place)

    def _schedule(self, entry: list[Any], place: str) -> None:
        heapq.heappush(self._due, (entry[TIME] + self._join.within, place))
        if self._lateness:
            heapq.heappush(self._due, (self._expiry(entry), place))
        if entry[ID] is not None:
            self._places[entry[ID]] = place

    def _expiry(self, entry: list[Any]) -> int:
        return entry[TIME] + self._join.within + self._lateness

    # elements

    def take(self, side: int, element: Element, watermark: int) -> Iterator[Element]:
        """One element of the left (0) or right (1) side. Raises Late."""
        for former in element.ids[1:]:
            place = self._places.pop(former, None)
            if place is not None:
                yield from self._without(place, lambda entry, id=former: entry[ID] == id, watermark)
        if element.withdrawn:
            return
        join = self._join
        if element.time + join.within + self._lateness < watermark:
            raise Late
        place = key_text(element.key)
        kept = self._state.get(place)
        if kept is None:
            kept = {"key": element.key, "names": self._names, "sides": [[], []], "next": 0, "groups": []}
            self._kept += 1
        kept["next"] += 1
        id = element.ids[0] if element.ids else None
        value = kept_of(element.value)
        entry = [element.time, element.order, element.origin, value, 0, 0, kept["next"], id]
        others = [] if join.kind == "group" else kept["sides"][1 - side]
        kept["sides"][side].append(entry)
        self._state.put(place, kept)
        self._schedule(entry, place)
        for other in list(others):
            if abs(other[TIME] - element.time) <= join.within:
                left, right = (entry, other) if side == 0 else (other, entry)
                left[MATCHES] += 1
                right[MATCHES] += 1
                yield from self._pair(kept, place, left, right)

    def _pair(self, kept: dict[str, Any], place: str, left: list[Any], right: list[Any]) -> Iterator[Element]:
        ids = [_pair_id(place, left, right)]
        if left[ALONE] > 0:
            ids.append(_alone_id(place, left))
            left[ALONE] = -left[ALONE]
        time, order = max(left[TIME], right[TIME]), max(left[ORDER], right[ORDER])
        yield from self._made(kept, (value_of(left[VALUE]), value_of(right[VALUE])), time, order, ids)

    def _alone(self, kept: dict[str, Any], place: str, left: list[Any]) -> Iterator[Element]:
        left[ALONE] = 1 - left[ALONE]
        given = (value_of(left[VALUE]), None)
        yield from self._made(kept, given, left[TIME], left[ORDER], [_alone_id(place, left)])

    def _made(
        self, kept: dict[str, Any], given: tuple[Any, Any], time: int, order: int, ids: list[str]
    ) -> Iterator[Element]:
        key, names = _key(kept), tuple(kept["names"])
        about = Element(given, time, order, None, key, names, tuple(ids))
        value = self._call(self._join.function, given, about)
        if value is not None:
            yield Element(as_value(value), time, order, None, key, names, tuple(ids))
        elif ids[1:]:
            yield gone(about)

    # time

    def advance(self, watermark: int) -> Iterator[Element]:
        """Unmatched lefts and whole clusters whose time has passed; drop what can no longer match."""
        places = set()
        while self._due and self._due[0][0] < watermark:
            places.add(heapq.heappop(self._due)[1])
        for place in sorted(places):
            kept = self._state.get(place)
            if kept is not None:
                yield from self._settled(place, kept, watermark)

    def _settled(self, place: str, kept: dict[str, Any], watermark: int) -> Iterator[Element]:
        """What is certain by now of a key, and what is left of it."""
        if self._join.kind == "group":
            yield from self._clusters(place, kept, watermark)
            return
        if self._join.kind == "left":
            for entry in sorted(kept["sides"][0], key=lambda e: e[:2]):
                if not entry[MATCHES] and entry[ALONE] <= 0 and entry[TIME] + self._join.within < watermark:
                    yield from self._alone(kept, place, entry)
        self._replace(
            place, kept, [[e for e in side if self._expiry(e) >= watermark] for side in kept["sides"]]
        )

    def _replace(self, place: str, kept: dict[str, Any], sides: list[list[Any]]) -> None:
        for side, others in zip(kept["sides"], sides, strict=True):
            if len(side) != len(others):
                left = {entry[NUMBER] for entry in others}
                for entry in side:
                    if entry[NUMBER] not in left:
                        self._places.pop(entry[ID], None)
        kept["sides"] = sides
        if any(sides):
            self._state.put(place, kept)
        else:
            self._state.drop(place)
            self._kept -= 1

    def _clusters(self, place: str, kept: dict[str, Any], watermark: int) -> Iterator[Element]:
        within = self._join.within
        clusters: list[list[tuple[int, list[Any]]]] = []
        both = [(side, entry) for side in (0, 1) for entry in kept["sides"][side]]
        for item in sorted(both, key=lambda item: (*item[1][:2], item[0])):
            if clusters and item[1][TIME] - clusters[-1][-1][1][TIME] <= within:
                clusters[-1].append(item)
            else:
                clusters.append([item])
        left: list[list[Any]] = [[], []]
        given, kept["groups"] = kept["groups"], []
        for cluster in clusters:
            last = cluster[-1][1]
            numbers = [entry[NUMBER] for _, entry in cluster]
            former = [group for group in given if set(group[1]) & set(numbers)]
            given = [group for group in given if group not in former]
            if last[TIME] + within < watermark and [group[1] for group in former] != [numbers]:
                kept["next"] += 1
                id = f"{place}|{last[TIME]}.{kept['next']}"
                sides = tuple([value_of(e[VALUE]) for s, e in cluster if s == side] for side in (0, 1))
                ids = [id, *(group[0] for group in former)]
                yield from self._made(kept, sides, last[TIME], last[ORDER], ids)  # type: ignore[arg-type]
                former = [[id, numbers]]
            if self._expiry(last) >= watermark:
                kept["groups"] += former
                for side, entry in cluster:
                    left[side].append(entry)
        for id, _ in given:
            key, names = _key(kept), tuple(kept["names"])
            yield Element(None, watermark, 0, None, key, names, ("", id), withdrawn=True)
        self._replace(place, kept, left)

    def next_end(self) -> int | None:
        """When something is due next by the watermark alone."""
        if self._join.kind == "inner" or not self._due:
            return None
        return self._due[0][0] + 1

    # taking back

    def retract(self, origin: int, watermark: int) -> Iterator[Element]:
        """Take a record out of what may still match, and what was made of it back."""
        for place in [place for place, _ in self._state.items()]:
            yield from self._without(place, lambda entry: entry[ORIGIN] == origin, watermark)

    def _without(self, place: str, leaves: Callable[[list[Any]], bool], watermark: int) -> Iterator[Element]:
        kept = self._state.get(place)
        if kept is None or not any(leaves(entry) for side in kept["sides"] for entry in side):
            return
        sides = [[entry for entry in side if not leaves(entry)] for side in kept["sides"]]
        if self._join.kind != "group":
            yield from self._unpaired(kept, place, leaves)
        before, kept["sides"] = kept["sides"], sides
        if any(sides) or kept["groups"]:
            self._state.put(place, kept)
            yield from self._settled(place, kept, watermark)
        else:
            kept["sides"] = before
            self._replace(place, kept, sides)

    def _unpaired(
        self, kept: dict[str, Any], place: str, leaves: Callable[[list[Any]], bool]
    ) -> Iterator[Element]:
        key, names = _key(kept), tuple(kept["names"])
        ids = []
        for left in kept["sides"][0]:
            if leaves(left) and left[ALONE] > 0:
                ids.append(_alone_id(place, left))
            for right in kept["sides"][1]:
                if (leaves(left) or leaves(right)) and abs(left[TIME] - right[TIME]) <= self._join.within:
                    left[MATCHES] -= 1
                    right[MATCHES] -= 1
                    ids.append(_pair_id(place, left, right))
        for id in ids:
            yield Element(None, 0, 0, None, key, names, ("", id), withdrawn=True)

    def open(self) -> int:
        """How many keys are kept."""
        return self._kept


def key_names(join: Join) -> tuple[str, ...]:
    """The names of a join's key: the left side's."""
    pipeline = join.left
    while True:
        for step in reversed(pipeline.steps):
            if isinstance(step, KeyBy):
                return step.names
        pipeline = pipeline.source.left


def _pair_id(place: str, left: list[Any], right: list[Any]) -> str:
    return f"{place}|{left[TIME]}.{left[NUMBER]}-{right[TIME]}.{right[NUMBER]}"


def _alone_id(place: str, left: list[Any]) -> str:
    return f"{place}|{left[TIME]}.{left[NUMBER]}|{abs(left[ALONE])}"


def _key(kept: dict[str, Any]) -> Any:
    key = kept["key"]
    return tuple(key) if isinstance(key, list) and len(kept["names"]) > 1 else key
