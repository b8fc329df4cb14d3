"""What has state: windows, running aggregates, joins. Each takes elements and watermarks, and gives results.

Entries are kept with their time and order, and a result is computed from them in that order, so it depends
neither on the order of arrival within the lateness nor on how the input was cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from .. import when
from ..plan.aggregation import finish, value_of
from ..plan.condition import is_number
from ..plan.fields import MISSING, read
from ..record import Row
from .element import Element, as_value, plain
from .state import State
from .steps import Aggregate, Join, Reduce
from .windows import assigned

__all__ = ["Joined", "Late", "Windowed", "key_text"]


class Late(Exception):
    """An element came after its windows were closed for good."""


def key_text(key: Any) -> str:
    """A key as text that sorts equal keys together."""
    return orjson.dumps(key, default=str, option=orjson.OPT_SORT_KEYS).decode()


class Windowed:
    """Aggregate or reduce, over windows or (without) running. State: "w<stage>|key|start" -> the window."""

    def __init__(
        self, step: Aggregate | Reduce, stage: int, state: State, tz: ZoneInfo, lateness: int
    ) -> None:
        self.step = step
        self._prefix = f"w{stage}|"
        self._state = state
        self._tz = tz
        self._lateness = lateness

    def _entry(self, element: Element) -> list[Any]:
        step = self.step
        if isinstance(step, Reduce):
            return [element.time, element.order, element.origin, plain(element.value)]
        values = []
        for made in step.compute.values():
            if made.operation == "count":
                values.append(True)
            elif made.field is None:
                values.append(plain(element.value))
            elif made.field.path == ("timestamp",):
                values.append(when.to_datetime(element.time).isoformat())
            else:
                found = value_of(element.value, made.field)
                values.append(None if found is MISSING else found)
        return [element.time, element.order, element.origin, values]

    def _result(self, entries: list[Any]) -> dict[str, Any]:
        ordered = sorted(entries, key=lambda entry: (entry[0], entry[1]))
        step = self.step
        if isinstance(step, Reduce):
            state = step.initial() if callable(step.initial) else _copy(step.initial)
            for entry in ordered:
                result = step.function(state, as_value(entry[3]))
                state = state if result is None else result
            return dict(state) if isinstance(state, dict) else {"value": state}
        found = {}
        for n, (name, made) in enumerate(step.compute.items()):
            if made.operation == "count":
                found[name] = len(ordered)
                continue
            kept = [[e[0], e[1], e[3][n]] for e in ordered if e[3][n] is not None]
            if made.operation in ("sum", "avg", "stddev", "percentile"):
                kept = [entry for entry in kept if is_number(entry[2])]
            value = finish(made, kept)
            if made.field is not None and made.field.path == ("timestamp",) and isinstance(value, str):
                value = when.to_datetime(when.instant(value, self._tz))
            found[name] = value
        return found

    def take(self, element: Element, watermark: int) -> Iterator[Element]:
        """One element; gives corrections of windows that had fired. Raises Late."""
        window = self.step.window
        if window is None:
            yield from self._running(element)
            return
        if window.kind == "session":
            yield from self._session(element, watermark)
            return
        spans = assigned(window, element.time, self._tz)
        open_ = [(start, end) for start, end in spans if end + self._lateness > watermark]
        if not open_ and spans:
            raise Late
        for start, end in open_:
            place = f"{self._prefix}{key_text(element.key)}|{start}"
            kept = self._state.get(place) or self._fresh(element, start, end)
            kept["entries"].append(self._entry(element))
            self._state.put(place, kept)
            if kept["fired"]:
                yield self._fire(place, kept)

    def _fresh(self, element: Element, start: int, end: int) -> dict[str, Any]:
        return {
            "key": element.key,
            "names": element.names,
            "start": start,
            "end": end,
            "entries": [],
            "fired": 0,
        }

    def _running(self, element: Element) -> Iterator[Element]:
        place = f"{self._prefix}{key_text(element.key)}|"
        kept = self._state.get(place) or self._fresh(element, 0, 0)
        kept["entries"].append(self._entry(element))
        self._state.put(place, kept)
        value = {**_named(kept), **self._result(kept["entries"]), "key": _key(kept)}
        yield Element(Row(value), element.time, element.order, None, _key(kept), tuple(kept["names"]))

    def _session(self, element: Element, watermark: int) -> Iterator[Element]:
        window = self.step.window
        assert window is not None
        gap = window.size
        prefix = f"{self._prefix}{key_text(element.key)}|"
        touching = []
        for place in self._state.keys(prefix):
            kept = self._state.get(place)
            if kept["start"] - gap < element.time < kept["end"]:
                touching.append((place, kept))
        if not touching and element.time + gap + self._lateness <= watermark:
            raise Late
        made = self._fresh(element, element.time, element.time + gap)
        former: list[str] = []
        for place, kept in touching:
            made["entries"] += kept["entries"]
            made["start"] = min(made["start"], kept["start"])
            made["end"] = max(made["end"], kept["end"])
            if kept["fired"]:
                former += kept.get("ids", [self._id(place, kept)])
                made["fired"] = max(made["fired"], kept["fired"])
            self._state.drop(place)
        made["entries"].append(self._entry(element))
        place = f"{prefix}{made['start']}"
        made["former"] = former
        due = made["end"] <= watermark
        refire = bool(former)
        self._state.put(place, made)
        if refire and due:
            yield self._fire(place, made)
        elif refire:
            # The session grew past the watermark: it fires again at its end.
            made["fired"] = 0
            made["revision"] = max(int(x.rsplit("|", 1)[1]) for x in former)

    def _id(self, place: str, kept: dict[str, Any]) -> str:
        return f"{place}|{kept['fired']}"

    def _fire(self, place: str, kept: dict[str, Any]) -> Element:
        former = list(kept.get("former") or ([self._id(place, kept)] if kept["fired"] else []))
        kept["fired"] = max(kept["fired"], kept.get("revision", 0)) + 1
        kept["former"] = []
        self._state.put(place, kept)
        value = {
            **_named(kept),
            **self._result(kept["entries"]),
            "key": _key(kept),
            "window_start": when.to_datetime(kept["start"], self._tz),
            "window_end": when.to_datetime(kept["end"], self._tz),
        }
        ids = (self._id(place, kept), *former)
        return Element(
            Row(value), kept["end"] - 1, kept["start"], None, _key(kept), tuple(kept["names"]), ids
        )

    def advance(self, watermark: int) -> Iterator[Element]:
        """Fire the windows that have ended, in order of their end, and drop what can no longer matter."""
        if self.step.window is None:
            return
        ended = [
            (kept["end"], kept["start"], place)
            for place in self._state.keys(self._prefix)
            if (kept := self._state.get(place))["end"] <= watermark
        ]
        for end, _, place in sorted(ended):
            kept = self._state.get(place)
            if not kept["fired"] and kept["entries"]:
                yield self._fire(place, kept)
            if end + self._lateness <= watermark:
                self._state.drop(place)

    def retract(self, origin: int) -> Iterator[Element]:
        """Take a record's contributions out of the windows that are still there."""
        for place in self._state.keys(self._prefix):
            kept = self._state.get(place)
            left = [entry for entry in kept["entries"] if entry[2] != origin]
            if len(left) != len(kept["entries"]):
                kept["entries"] = left
                self._state.put(place, kept)
                if kept["fired"] and left:
                    yield self._fire(place, kept)

    def next_end(self) -> int | None:
        """The earliest end of a window that has not fired."""
        return min(
            (k["end"] for p in self._state.keys(self._prefix) if not (k := self._state.get(p))["fired"]),
            default=None,
        )

    def open(self) -> int:
        """How many windows are kept."""
        return len(self._state.keys(self._prefix))


def _key(kept: dict[str, Any]) -> Any:
    key = kept["key"]
    return tuple(key) if isinstance(key, list) else key


def _named(kept: dict[str, Any]) -> dict[str, Any]:
    names, key = kept["names"], kept["key"]
    if not names:
        return {}
    return dict(zip(names, key, strict=True)) if len(names) > 1 else {names[0]: key}


def _copy(value: Any) -> Any:
    from copy import deepcopy

    return deepcopy(value)


class Joined:
    """Two sides by key within a bound of time. State: "j|key" -> what may still match."""

    def __init__(self, join: Join, state: State, call: Callable[..., Any]) -> None:
        self._join = join
        self._state = state
        self._call = call

    def take(self, side: int, element: Element, watermark: int) -> Iterator[Element]:
        """One element of the left (0) or right (1) side."""
        join = self._join
        if element.time + join.within < watermark and join.kind != "inner":
            raise Late
        place = f"j|{key_text(element.key)}"
        kept = self._state.get(place) or {"key": element.key, "names": element.names, "sides": [[], []]}
        entry = [element.time, element.order, element.origin, plain(element.value), False]
        if join.kind != "group":
            for other in kept["sides"][1 - side]:
                if abs(other[0] - element.time) <= join.within:
                    left, right = (entry, other) if side == 0 else (other, entry)
                    left[4] = True
                    yield from self._emit(kept, left, right)
        kept["sides"][side].append(entry)
        self._state.put(place, kept)

    def _emit(self, kept: dict[str, Any], left: list[Any], right: list[Any] | None) -> Iterator[Element]:
        function = self._join.function
        value = self._call(function, as_value(left[3]), None if right is None else as_value(right[3]))
        if value is None:
            return
        time = left[0] if right is None else max(left[0], right[0])
        order = left[1] if right is None else max(left[1], right[1])
        yield Element(as_value(value), time, order, None, _key(kept), tuple(kept["names"]))

    def advance(self, watermark: int) -> Iterator[Element]:
        """Unmatched lefts and whole clusters whose time has passed; drop what can no longer match."""
        within = self._join.within
        for place in sorted(self._state.keys("j|")):
            kept = self._state.get(place)
            if self._join.kind == "group":
                yield from self._clusters(place, kept, watermark)
                continue
            if self._join.kind == "left":
                for entry in sorted(kept["sides"][0], key=lambda e: (e[0], e[1])):
                    if not entry[4] and entry[0] + within < watermark:
                        entry[4] = True
                        yield from self._emit(kept, entry, None)
            sides = [[e for e in side if e[0] + within >= watermark] for side in kept["sides"]]
            if sides != kept["sides"] or not any(sides):
                self._replace(place, kept, sides)

    def _replace(self, place: str, kept: dict[str, Any], sides: list[list[Any]]) -> None:
        if any(sides):
            self._state.put(place, {**kept, "sides": sides})
        else:
            self._state.drop(place)

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
        for cluster in clusters:
            if cluster[-1][0] + within >= watermark:
                for _, _, side, entry in cluster:
                    left_over[side].append(entry)
                continue
            sides = [[as_value(e[3]) for _, _, s, e in cluster if s == side] for side in (0, 1)]
            function = self._join.function
            value = (sides[0], sides[1]) if function is None else self._call(function, *sides)
            yield Element(
                as_value(value), cluster[-1][0], cluster[-1][1], None, _key(kept), tuple(kept["names"])
            )
        if left_over != kept["sides"]:
            self._replace(place, kept, left_over)

    def next_end(self) -> int | None:
        """When something is due next by the watermark alone."""
        if self._join.kind == "inner":
            return None
        times = [
            e[0]
            for p in self._state.keys("j|")
            for side in self._state.get(p)["sides"]
            for e in side
            if not e[4]
        ]
        return min(times) + self._join.within + 1 if times else None

    def retract(self, origin: int) -> None:
        """Take a record out of what may still match."""
        for place in self._state.keys("j|"):
            kept = self._state.get(place)
            sides = [[e for e in side if e[2] != origin] for side in kept["sides"]]
            if sides != kept["sides"]:
                self._replace(place, kept, sides)

    def open(self) -> int:
        return len(self._state.keys("j|"))


def field_of(element: Element, name: str) -> Any:
    """A field of an element by name, MISSING if there is none."""
    from ..plan.fields import as_field

    return read(element.value, as_field(name))
