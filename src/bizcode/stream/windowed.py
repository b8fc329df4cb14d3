"""Aggregate and reduce: over windows, or running.

A window keeps an accumulator per aggregation (a reduction keeps its elements, which it takes in event time), so
a result depends neither on the order of arrival within the lateness nor on how the input was cut into batches.
Where elements can be corrected (they come out of a window or a join), each is kept with its result's id.
State: "<key as text>|<start>" -> the window; "revision" -> the least revision of a new session's results.
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
from .element import Element, Late, gone, index_of, kept_of, named, value_of
from .kept import Kept, spans
from .state import Scoped
from .steps import Aggregate, Reduce
from .windows import Assigner

__all__ = ["Windowed"]


class Windowed:
    """One aggregate or reduce step.

    `mark` is the watermark that it was advanced to: what comes before it is moved on is in time.

    Args:
        attempt: calls a user's function for an element (and a window that goes with it), with retries;
            None if it failed for good.
        corrected: whether elements may come that correct former ones.
    """

    def __init__(
        self,
        step: Aggregate | Reduce,
        state: Scoped,
        tz: ZoneInfo,
        lateness: int,
        attempt: Callable[..., Any],
        corrected: bool = False,
    ) -> None:
        self.step = step
        self.folds = (
            []
            if isinstance(step, Reduce)
            else [(name, accumulator(made)) for name, made in step.compute.items()]
        )
        self.lateness = lateness
        self.mark = -(2**62)
        self.touched: dict[str, Kept] | None = None
        """If there is one, told the windows that change, by place."""
        self._corrected = corrected
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
        self._holders: dict[str, list[Kept]] = {}
        self._revision: int = self._state.get("revision", 0)
        for place, found in self._state.items():
            if place == "revision":
                continue
            kept = Kept.of(found)
            self._state.put(place, kept)
            self._open.setdefault(index_of(kept.key), {})[kept.start] = kept
            self._schedule(kept)
            self._hold(kept, kept.entries)

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
        kept.revision = self._revision
        self._open.setdefault(index_of(key), {})[start] = kept
        self._schedule(kept)
        return kept

    def keep(self, kept: Kept) -> None:
        """Write it with the batch."""
        self._state.put(kept.place, kept)
        if self.touched is not None:
            self.touched[kept.place] = kept

    def _drop(self, kept: Kept) -> None:
        index = index_of(kept.key)
        of_key = self._open.get(index)
        if of_key is not None and of_key.get(kept.start) is kept:
            del of_key[kept.start]
            if not of_key:
                del self._open[index]
            self._state.drop(kept.place)
            if self.touched is not None:
                self.touched[kept.place] = kept
            self._release(kept, kept.entries)

    def _hold(self, kept: Kept, entries: list[Any]) -> None:
        """Remember which results the window's elements are."""
        for entry in entries if self._corrected else ():
            if len(entry) > 3:
                self._holders.setdefault(entry[3], []).append(kept)

    def _release(self, kept: Kept, entries: list[Any]) -> None:
        for entry in entries if self._corrected else ():
            holders = self._holders.get(entry[3]) if len(entry) > 3 else None
            if holders is not None:
                holders[:] = [other for other in holders if other is not kept]
                if not holders:
                    del self._holders[entry[3]]

    def fold(self, kept: Kept, element: Element) -> None:
        """Add an element to a window's accumulators."""
        kept.count += 1
        value, time, order = element.value, element.time, element.order
        for (_, fold), state in zip(self.folds, kept.states, strict=True):
            fold.add(state, fold.read(value, time), time, order)

    def _add(self, kept: Kept, element: Element) -> None:
        self.fold(kept, element)
        if self._corrected or not self.folds:
            kept.entries.append(self._entry(element))
            self._hold(kept, kept.entries[-1:])
        self.keep(kept)

    @staticmethod
    def _entry(element: Element) -> list[Any]:
        return [element.time, element.order, kept_of(element.value), *element.ids[:1]]

    # elements

    def take(self, element: Element) -> list[Element]:
        """One element, in place of those that it corrects; gives corrections of windows that had fired.
        Raises Late."""
        stale, found = self._without(element.ids[1:])
        if self.assigner is None:
            return self._running_on(element, stale)
        if not element.withdrawn:
            try:
                stale += self._session_of(element) if self._session else self._windows_of(element)
            except Late:
                if not stale and not found:
                    raise
        for kept in dict.fromkeys(stale):
            if self.windows(kept.key).get(kept.start) is kept:
                found += self.fire(kept)
        return found

    def _windows_of(self, element: Element) -> list[Kept]:
        """Add to its windows; gives those that had fired."""
        assert self.assigner is not None
        fired: list[Kept] = []
        late = True
        of_key = self._open.get(index_of(element.key)) or {}
        for start, end in self.assigner.spans(element.time):
            if end + self.lateness <= self.mark:
                continue
            late = False
            kept = of_key.get(start)
            if kept is None:
                kept = self.fresh(element.key, element.names, start, end)
                of_key = self._open[index_of(element.key)]
            self._add(kept, element)
            if kept.fired:
                fired.append(kept)
        if late:
            raise Late
        return fired

    def _running_on(self, element: Element, stale: list[Kept]) -> list[Element]:
        """Where folds without a window stand now that an element is there, or in place of others."""
        others = [kept for kept in stale if element.withdrawn or kept.key != element.key]
        found = [out for kept in others for out in self._standing(kept, element)]
        return found if element.withdrawn else found + self._running(element)

    def _running(self, element: Element) -> list[Element]:
        kept = self.windows(element.key).get(0)
        if kept is None:
            kept = self.fresh(element.key, element.names, 0, 0)
        if isinstance(self.step, Reduce):
            # Running, it folds in the order of arrival: nothing says when an earlier one can't come any more.
            entry = self._entry(element) if self._corrected else None
            after = self._attempt(lambda: (self._folded(kept, element.value, entry),), element)
            if after is None:
                return []
            kept.states = [after[0]]
            kept.count += 1
            if entry is not None:
                kept.entries.append(entry)
                self._hold(kept, [entry])
            self.keep(kept)
        else:
            self._add(kept, element)
        return self._standing(kept, element)

    def _folded(self, kept: Kept, value: Any, entry: list[Any] | None) -> Any:
        """What a running reduction makes of one more; where one was taken out, all that is left by time."""
        if kept.states or not kept.entries:
            return self._next(deepcopy(kept.states[0]) if kept.states else self._initial(), value)
        return self._reduced([*kept.entries, entry] if entry is not None else kept.entries)

    def _standing(self, kept: Kept, element: Element) -> list[Element]:
        """A running fold as it is after an element, gone where nothing is left."""
        about = Element(None, element.time, element.order, None, kept.key, kept.names)
        if not kept.count:
            self._drop(kept)
            return [gone(about)]
        if isinstance(self.step, Reduce):
            if not kept.states:
                after = self._attempt(lambda: (self._reduced(kept.entries),), element)
                if after is None:
                    return []
                kept.states = [after[0]]
                self.keep(kept)
            value = _fields(kept.states[0])
        else:
            value = self._result(kept)
        return [about.with_value({**named(kept.names, kept.key), **value, "key": kept.key})]

    def _session_of(self, element: Element) -> list[Kept]:
        """Add to its session; gives it if it had fired and is complete."""
        assert self.step.window is not None
        gap, time = self.step.window.size, element.time
        touching = [k for k in self.windows(element.key).values() if k.start - gap < time < k.end]
        if not touching and time + gap + self.lateness <= self.mark:
            raise Late
        kept = self.extend(touching, element.key, element.names, time, time + gap)
        self._add(kept, element)
        return [kept] if kept.ids and kept.end <= self.mark else []

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
            other.count = 0
            kept.entries += other.entries
            self._hold(kept, other.entries)
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
            result = self._gone(kept) if former else []
            kept.ids = []
        else:
            result = self.once(kept, former)
        kept.fired = True
        self._schedule(kept)
        self.keep(kept)
        return result

    def _gone(self, kept: Kept) -> list[Element]:
        about = Element(None, kept.end - 1, kept.start, None, kept.key, kept.names, ("", *kept.ids))
        return [gone(about)]

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
            result = self._attempt(lambda: self._result(kept), about, kept)
            if result is None:
                return self._gone(kept) if former else []
        kept.revision += 1
        id = f"{kept.place}|{kept.revision}"
        kept.ids = [id]
        value = Row({**base, **result, **ends})
        return [Element(value, time, order, None, kept.key, kept.names, (id, *former))]

    def again(self, kept: Kept) -> list[Element]:
        """The result of a window that had failed: as it is now, or as it was if it isn't kept any more."""
        known = self.windows(kept.key).get(kept.start)
        return self.once(kept, tuple(kept.ids)) if known is None else self.fire(known)

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
        return _fields(self._reduced(kept.entries))

    def _reduced(self, entries: list[Any]) -> Any:
        """What a reduction makes of elements, by time."""
        state = self._initial()
        for entry in sorted(entries, key=lambda entry: (entry[0], entry[1])):
            state = self._next(state, value_of(entry[2]))
        return state

    def _next(self, state: Any, value: Any) -> Any:
        assert isinstance(self.step, Reduce)
        result = self.step.function(state, value)
        return state if result is None else result

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
        self.mark = watermark

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
        if self.assigner is None:
            return self._run_again(element, [e for e in left(-(2**62), 2**62) if index_of(e.key) == mine])
        for kept in list(self.windows(element.key).values()):
            if not kept.start <= element.time < kept.end:
                continue
            rest = [other for other in left(kept.start, kept.end) if index_of(other.key) == mine]
            stale, withdrawn = self._made_again(kept, rest)
            found += withdrawn
            if stale:
                found += self.fire(kept)
        return found

    def _run_again(self, element: Element, rest: list[Element]) -> list[Element]:
        """Fold what is left in the order in which it came; gives where that leads."""
        kept = self.windows(element.key).get(0)
        if kept is None:
            return []
        self._drop(kept)
        found = [gone(Element(None, element.time, element.order, None, kept.key, kept.names))]
        for other in sorted(rest, key=lambda e: e.order):
            found = self._running(other)
        return found

    def _without(self, ids: tuple[str, ...]) -> tuple[list[Kept], list[Element]]:
        """Take elements out again by their ids; gives what `_made_again` does, of all their windows."""
        going: set[str] = set()
        for id in ids:
            # What a flat_map made of one result is numbered.
            n = 0
            while (one := f"{id}.{n}" if n else id) in self._holders:
                going.add(one)
                n += 1
        stale: list[Kept] = []
        withdrawn: list[Element] = []
        for kept in dict.fromkeys(kept for id in going for kept in self._holders.get(id, ())):
            rest = [
                Element(value_of(entry[2]), entry[0], entry[1], None, kept.key, kept.names, tuple(entry[3:]))
                for entry in sorted(kept.entries, key=lambda entry: entry[:2])
                if not going.intersection(entry[3:])
            ]
            fired, lost = self._made_again(kept, rest)
            stale += [kept] if fired or self.assigner is None else []
            withdrawn += lost
        return stale, withdrawn

    def _made_again(self, kept: Kept, rest: list[Element]) -> tuple[bool, list[Element]]:
        """A window of what is left of its elements, by time: whether it is to fire again, and what is
        withdrawn for good. A session falls into several where what held it together is gone."""
        gap = self.step.window.size if self._session and self.step.window is not None else None
        if gap is None or (rest and spans(rest, gap) == [(kept.start, kept.end)]):
            self._release(kept, kept.entries)
            kept.states = [fold.new() for _, fold in self.folds]
            kept.entries, kept.count = [], 0
            for element in rest:
                self._add(kept, element)
            self.keep(kept)
            return kept.fired, []
        self._drop(kept)
        if kept.revision > self._revision:
            self._revision = kept.revision
            self._state.put("revision", kept.revision)
        left = iter(rest)
        element = next(left, None)
        ids = kept.ids
        for start, end in spans(rest, gap):
            made = self.fresh(kept.key, kept.names, start, end)
            made.ids, ids = ids, []
            while element is not None and element.time < end:
                self._add(made, element)
                element = next(left, None)
        return False, self._gone(kept) if ids else []

    def open(self) -> int:
        """How many windows are kept."""
        return sum(map(len, self._open.values()))


def _fields(state: Any) -> dict[str, Any]:
    return dict(state) if isinstance(state, dict) else {"value": state}
