"""Aggregate and reduce: over windows, or running.

A window keeps an accumulator per aggregation (a reduction keeps its elements, which it takes in event time), so
a result depends neither on the order of arrival within the lateness nor on how the input was cut into batches.
State: "<key as text>|<start>" -> the window.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from .. import when
from ..plan.accumulator import accumulator
from ..record import Row
from .element import Element, Late, as_value, index_of, key_text, named, plain
from .state import Scoped
from .steps import Aggregate, Reduce
from .windows import Assigner

__all__ = ["Kept", "Windowed"]


class Kept:
    """One window, kept at `place`. `ids` are those of its results that stand, `revision` the highest number of
    any result."""

    __slots__ = (
        "count",
        "end",
        "entries",
        "fired",
        "ids",
        "key",
        "names",
        "place",
        "revision",
        "start",
        "states",
    )

    def __init__(self, key: Any, names: tuple[str, ...], start: int, end: int, states: list[Any]) -> None:
        self.key = key
        self.names = names
        self.start = start
        self.end = end
        self.states = states
        self.entries: list[Any] = []
        self.count = 0
        self.fired = False
        self.ids: list[str] = []
        self.revision = 0
        self.place = f"{key_text(key)}|{start}"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "place"}

    @staticmethod
    def of(found: dict[str, Any]) -> Kept:
        """From JSON."""
        key = tuple(found["key"]) if len(found["names"]) > 1 else found["key"]
        kept = Kept(key, tuple(found["names"]), found["start"], found["end"], found["states"])
        for name in ("entries", "count", "fired", "ids", "revision"):
            setattr(kept, name, found[name])
        return kept


class Windowed:
    """One aggregate or reduce step.

    Args:
        failed: called with what a reduction raised and its window's elements; gives its result, if a
            later attempt had one.
    """

    def __init__(
        self,
        step: Aggregate | Reduce,
        state: Scoped,
        tz: ZoneInfo,
        lateness: int,
        attempt: Callable[[Callable[[], Any], Element], Any],
    ) -> None:
        self.step = step
        self.folds = (
            []
            if isinstance(step, Reduce)
            else [(name, accumulator(made)) for name, made in step.compute.items()]
        )
        self.lateness = lateness
        self._tz = tz
        self._state = state
        self._attempt = attempt
        self._numbers = itertools.count()
        self._instants: dict[int, datetime] = {}
        self.assigner = None if step.window is None else Assigner(step.window, tz)
        self._session = step.window is not None and step.window.kind == "session"
        state.loader(self._load)

    def _load(self) -> None:
        self._open: dict[Any, dict[int, Kept]] = {}
        self._ends: list[Any] = []
        self._expiries: list[Any] = []
        for place, found in self._state.items():
            kept = Kept.of(found)
            self._state.put(place, kept)
            self._open.setdefault(index_of(kept.key), {})[kept.start] = kept
            self._schedule(kept)

    def _schedule(self, kept: Kept) -> None:
        if self.step.window is None:
            return
        if not kept.fired:
            entry = (kept.end, kept.start, kept.place, next(self._numbers), kept)
            heapq.heappush(self._ends, entry)
        elif self.lateness:
            heapq.heappush(self._expiries, (kept.end + self.lateness, next(self._numbers), kept))

    def windows(self, key: Any) -> dict[int, Kept]:
        """The windows of a key that are kept, by start."""
        return self._open.get(index_of(key)) or {}

    def unkept(self, key: Any, names: tuple[str, ...], start: int, end: int) -> Kept:
        """A window that is not kept."""
        return Kept(key, names, start, end, [fold.new() for _, fold in self.folds])

    def fresh(self, key: Any, names: tuple[str, ...], start: int, end: int) -> Kept:
        """A window that is kept from now on."""
        kept = self.unkept(key, names, start, end)
        self._open.setdefault(index_of(key), {})[start] = kept
        self._schedule(kept)
        return kept

    def keep(self, kept: Kept) -> None:
        """Write it with the batch."""
        self._state.put(kept.place, kept)

    def _drop(self, kept: Kept) -> None:
        index = index_of(kept.key)
        of_key = self._open.get(index)
        if of_key is not None and of_key.get(kept.start) is kept:
            del of_key[kept.start]
            if not of_key:
                del self._open[index]
            self._state.drop(kept.place)

    def _add(self, kept: Kept, element: Element) -> None:
        kept.count += 1
        if self.folds:
            value, time, order = element.value, element.time, element.order
            for (_, fold), state in zip(self.folds, kept.states, strict=True):
                fold.add(state, fold.read(value, time), time, order)
        else:
            kept.entries.append([element.time, element.order, plain(element.value)])
        self.keep(kept)

    # elements

    def take(self, element: Element, watermark: int) -> list[Element]:
        """One element; gives corrections of windows that had fired. Raises Late."""
        if self.assigner is None:
            return self._running(element)
        if self._session:
            return self._into_session(element, watermark)
        found: list[Element] = []
        late = True
        of_key = self._open.get(index_of(element.key)) or {}
        for start, end in self.assigner.spans(element.time):
            if end + self.lateness <= watermark:
                continue
            late = False
            kept = of_key.get(start)
            if kept is None:
                kept = self.fresh(element.key, element.names, start, end)
                of_key = self._open[index_of(element.key)]
            self._add(kept, element)
            if kept.fired:
                found += self.fire(kept)
        if late:
            raise Late
        return found

    def _running(self, element: Element) -> list[Element]:
        kept = self.windows(element.key).get(0)
        if kept is None:
            kept = self.fresh(element.key, element.names, 0, 0)
        if isinstance(self.step, Reduce):
            # Running, it folds in the order of arrival: nothing says when an earlier one can't come any more.
            before = kept.states[0] if kept.states else self._initial()
            after = self.step.function(deepcopy(before), element.value)
            kept.states = [before if after is None else after]
            value = _fields(kept.states[0])
            kept.count += 1
            self.keep(kept)
        else:
            self._add(kept, element)
            value = self._result(kept)
        value = {**named(kept.names, kept.key), **value, "key": kept.key}
        return [Element(Row(value), element.time, element.order, None, kept.key, kept.names)]

    def _into_session(self, element: Element, watermark: int) -> list[Element]:
        assert self.step.window is not None
        gap, time = self.step.window.size, element.time
        touching = [k for k in self.windows(element.key).values() if k.start - gap < time < k.end]
        if not touching and time + gap + self.lateness <= watermark:
            raise Late
        kept = self.extend(touching, element.key, element.names, time, time + gap)
        self._add(kept, element)
        if kept.ids and kept.end <= watermark:
            return self.fire(kept)
        return []

    def extend(self, touching: list[Kept], key: Any, names: tuple[str, ...], start: int, end: int) -> Kept:
        """One session of several that touch, and of a span."""
        low = min([start, *(kept.start for kept in touching)])
        high = max([end, *(kept.end for kept in touching)])
        if len(touching) == 1 and touching[0].start == low:
            kept = touching[0]
            if kept.end != high:
                kept.end, kept.fired = high, False
                self._schedule(kept)
            return kept
        for other in touching:
            self._drop(other)
        kept = self.fresh(key, names, low, high)
        for other in touching:
            self.merge(kept, other.states, other.count)
            kept.entries += other.entries
            kept.ids += other.ids
            kept.revision = max(kept.revision, other.revision)
        return kept

    def merge(self, kept: Kept, states: list[Any], count: int) -> None:
        """Add accumulated states to a window."""
        kept.count += count
        for (_, fold), mine, theirs in zip(self.folds, kept.states, states, strict=True):
            fold.merge(mine, theirs)

    # results

    def fire(self, kept: Kept) -> list[Element]:
        """The window's result, in place of its former ones."""
        former = tuple(kept.ids)
        if not kept.count:
            time, order = kept.end - 1, kept.start
            kept.ids = []
            self.keep(kept)
            gone = Element(None, time, order, None, kept.key, kept.names, ("", *former), withdrawn=True)
            return [gone] if former else []
        result = self.once(kept, former)
        kept.fired = True
        self._schedule(kept)
        self.keep(kept)
        return result

    def once(self, kept: Kept, former: tuple[str, ...] = ()) -> list[Element]:
        """The result of a window that need not be kept for it."""
        time, order = kept.end - 1, kept.start
        ends = {
            "key": kept.key,
            "window_start": self._instant(kept.start),
            "window_end": self._instant(kept.end),
        }
        base = named(kept.names, kept.key)
        if self.folds:
            result = self._result(kept)
        else:
            about = Element(Row({**base, **ends}), time, order, None, kept.key, kept.names)
            result = self._attempt(lambda: self._result(kept), about)
            if result is None:
                return []
        kept.revision += 1
        id = f"{kept.place}|{kept.revision}"
        kept.ids = [id]
        value = Row({**base, **result, **ends})
        return [Element(value, time, order, None, kept.key, kept.names, (id, *former))]

    def _instant(self, us: int) -> datetime:
        """Windows share their ends: each is made once."""
        found = self._instants.get(us)
        if found is None:
            if len(self._instants) > 1_000:
                self._instants.clear()
            found = self._instants[us] = when.to_datetime(us, self._tz)
        return found

    def _result(self, kept: Kept) -> dict[str, Any]:
        if self.folds:
            pairs = zip(self.folds, kept.states, strict=True)
            return {name: fold.result(state) for (name, fold), state in pairs}
        assert isinstance(self.step, Reduce)
        state = self._initial()
        for entry in sorted(kept.entries, key=lambda entry: (entry[0], entry[1])):
            result = self.step.function(state, as_value(entry[2]))
            state = state if result is None else result
        return _fields(state)

    def _initial(self) -> Any:
        assert isinstance(self.step, Reduce)
        initial = self.step.initial
        return initial() if callable(initial) else deepcopy(initial)

    # time

    def advance(self, watermark: int, before: tuple[int, int, str] | None = None) -> Iterator[Element]:
        """Fire the windows that have ended, in order of their end, and drop what can no longer matter.
        `before`: only windows before that one, by end, start and place."""
        while self._ends and self._ends[0][0] <= watermark:
            if before is not None and self._ends[0][:3] > before:
                return
            end, start, _, _, kept = heapq.heappop(self._ends)
            if kept.fired or kept.end != end or self.windows(kept.key).get(start) is not kept:
                continue
            yield from self.fire(kept)
            if end + self.lateness <= watermark:
                self._drop(kept)
        while self._expiries and self._expiries[0][0] <= watermark:
            at, _, kept = heapq.heappop(self._expiries)
            if kept.end + self.lateness == at and kept.fired:
                self._drop(kept)

    def next_end(self) -> int | None:
        """The earliest end of a window that has not fired."""
        while self._ends:
            end, start, _, _, kept = self._ends[0]
            if not kept.fired and kept.end == end and self.windows(kept.key).get(start) is kept:
                return end
            heapq.heappop(self._ends)
        return None

    # retraction

    def retract(self, element: Element, left: Callable[[int, int], Iterable[Element]]) -> list[Element]:
        """Make the windows of an element again without it. `left` gives the elements between two instants
        that stay, of all keys."""
        found: list[Element] = []
        mine = index_of(element.key)
        for kept in list(self.windows(element.key).values()):
            if self.assigner is not None and not kept.start <= element.time < kept.end:
                continue
            low, high = (kept.start, kept.end) if self.assigner is not None else (-(2**62), 2**62)
            kept.states = [fold.new() for _, fold in self.folds]
            kept.entries, kept.count = [], 0
            for other in left(low, high):
                if index_of(other.key) == mine:
                    self._add(kept, other)
            self.keep(kept)
            if kept.fired:
                found += self.fire(kept)
        return found

    def open(self) -> int:
        """How many windows are kept."""
        return sum(map(len, self._open.values()))


def _fields(state: Any) -> dict[str, Any]:
    return dict(state) if isinstance(state, dict) else {"value": state}
