"""The elements that a pipeline gives of everything there is, kept up to date: what comes and what goes, look by look.

What a reader holds after each look is what `run()` would give. A record costs what follows from it: elements that
are made of single records come and go with those, results of windows are replaced by their place. Windows that are
open give what they have so far, as in `run()`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from ..consume.consumer import RANGE, RANGE_FROM
from ..record import SYSTEM, Stored
from ..segments.seal import ERASED
from ..unit import UnitOfWork
from .columns import columnar
from .element import Element
from .kept import Kept
from .runtime import Runtime
from .steps import Aggregate, Join, Reduce, Throttle
from .vectorised import Vectorised

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["Feed", "can_be_fed"]

Told = Callable[[Element, Hashable], None]


def can_be_fed(pipeline: Pipeline) -> bool:
    """Whether what a pipeline gives can be kept up to date: steps of single elements, and windows at most once."""
    folding = [step for step in pipeline.steps if isinstance(step, (Aggregate, Reduce))]
    return (
        not isinstance(pipeline.source, Join)
        and not any(isinstance(step, Throttle) for step in pipeline.steps)
        and len(folding) <= 1
        and all(step.window is not None for step in folding)
    )


class Feed:
    """What a pipeline gives, for one reader.

    Args:
        came: told each element that comes, with an id.
        went: told each element that goes, as it had come.
        again: everything that came is void, and comes anew.
    """

    def __init__(self, pipeline: Pipeline, came: Told, went: Told, again: Callable[[], None]) -> None:
        self._store = pipeline.store
        self._pipeline = pipeline
        self._pattern = pipeline.source.pattern
        self._came, self._went, self._again = came, went, again
        steps = pipeline.steps
        stage = next((n for n, step in enumerate(steps) if isinstance(step, (Aggregate, Reduce))), None)
        self._stage = stage
        self._head = pipeline if stage is None else replace(pipeline, steps=steps[: stage + 1])
        self._rest = replace(pipeline, steps=() if stage is None else steps[stage + 1 :])
        self._erased: bytes | None = None
        self._begin()

    def _begin(self) -> None:
        self.position = 0
        self._gone: set[int] = set()
        self._outs: list[Element] = []
        self._results: dict[str, Element | None] = {}
        """Windows' newest results by place, None where there is none any more."""
        self._standing: dict[str, list[tuple[Element, Hashable]]] = {}
        """What came of windows that can still change."""
        self._touched: dict[str, Kept] = {}
        collect = self._outs.append if self._stage is None else self._result
        self._runtime = Runtime(self._head, None, collect, sinks=False)
        self._after = Runtime(self._rest, None, self._outs.append, sinks=False)
        plan = columnar(self._head)
        self._columns = None if plan is None else Vectorised(self._runtime, plan)
        if self._stage is not None:
            self._runtime.operators[self._stage].touched = self._touched

    def begin_again(self) -> None:
        """Everything comes anew at the next look."""
        self._erased = None
        self._begin()

    def follow(self) -> None:
        """Tell what came and what went since the last look."""
        log = self._store.log
        erased = log.get(*ERASED) or b""
        if self._erased is not None and erased != self._erased:
            self._void()
        self._erased = erased
        head = log.head()
        if head <= self.position:
            return
        if self.position == 0:
            self._gone = {int(key) for key, _ in log.scan("retracted")}
        unit = UnitOfWork(log)
        token = unit.enter()
        try:
            if self._stage is None:
                self._take_elements(head)
            else:
                self._take_windows(head)
        finally:
            unit.leave(token)
            unit.discard()
        self.position = head

    def _void(self) -> None:
        self._again()
        self._begin()
        self._gone = {int(key) for key, _ in self._store.log.scan("retracted")}

    def _rows(self, head: int, all: bool = True, after: int | None = None) -> Iterator[Stored]:
        """The records after a position (None: where this is) and up to another, with retractions; or those only."""
        pattern, store = self._pattern, self._store
        after = self.position if after is None else after
        kinds = {*pattern.kinds, SYSTEM} if all else {SYSTEM}
        names = None if pattern.names is None else {*pattern.names, "retract"}
        while after < head:
            sealed = min(head, store.segments.catalog().sealed_to)
            if sealed > after:
                for rows in store.segments.rows(after, sealed, kinds, names if all else {"retract"}):
                    yield from rows
                after = sealed
            rows = store.log.read(after, head)
            if store.segments.catalog().sealed_to <= after:
                yield from rows
                return
            # Sealed in between: what was read may begin after that.

    def _retracted(self, row: Stored) -> int | None:
        """The position of a record that a record takes back, None if it does not, or takes back none of these."""
        if row.kind != SYSTEM or row.name != "retract":
            return None
        data = orjson.loads(row.data)
        position = data["position"]
        if position in self._gone or data["kind"] not in self._pattern.kinds:
            return None
        if self._pattern.names is not None and data["name"] not in self._pattern.names:
            return None
        return position

    # elements of single records

    def _take_elements(self, head: int) -> None:
        for row in self._rows(head):
            position = self._retracted(row)
            if position is not None:
                self._gone.add(position)
                stored = self._store.stored_at(position)
                for element, id in [] if stored is None else self._elements(stored):
                    self._went(element, id)
            elif row.kind != SYSTEM and row.position not in self._gone:
                for element, id in self._elements(row):
                    self._came(element, id)

    def _elements(self, row: Stored) -> list[tuple[Element, Hashable]]:
        if not self._pattern.wants(row):
            return []
        self._runtime.flow(self._runtime.element(row), 0)
        found: list[tuple[Element, Hashable]] = [
            (element, (row.position, n)) for n, element in enumerate(self._outs)
        ]
        self._outs.clear()
        return found

    # results of windows

    def _take_windows(self, head: int) -> None:
        if self.position:
            found = [self._retracted(row) for row in self._rows(head, all=False)]
            taken_back = {position for position in found if position is not None}
            if any(position <= self.position for position in taken_back):
                # It may have moved the watermark, and so have decided what was late: only all of it tells.
                self._void()
            self._gone |= taken_back
        if self._columns is not None and head - self.position >= RANGE_FROM:
            for after in range(self.position, head, RANGE):
                until = min(head, after + RANGE)
                if not self._columns.take(after, until, live=False):
                    self._one_by_one(self._rows(until, after=after))
                self._tell()
        else:
            self._one_by_one(self._rows(head))
        self._tell()

    def _one_by_one(self, rows: Iterator[Stored]) -> None:
        for row in rows:
            if row.kind != SYSTEM and row.position not in self._gone and self._pattern.wants(row):
                self._runtime.take(row)
                self._runtime.advance()

    def _result(self, element: Element) -> None:
        for former in element.ids[1:]:
            self._results[_place(former)] = None
        if not element.withdrawn:
            self._results[_place(element.ids[0])] = element

    def _tell(self) -> None:
        """Replace what came of the windows that changed."""
        assert self._stage is not None
        operator = self._runtime.operators[self._stage]
        results, touched = self._results, dict(self._touched)
        self._results = {}
        self._touched.clear()
        for place, kept in touched.items():
            if operator.windows(kept.key).get(kept.start) is not kept:
                if not kept.count:
                    results.setdefault(place, None)
            elif not kept.fired:
                made = operator.once(copy(kept)) if kept.count else []
                results[place] = next((one for one in made if not one.withdrawn), None)
        for place, element in results.items():
            for former, id in self._standing.pop(place, ()):
                self._went(former, id)
            if element is None:
                continue
            self._after.flow(replace(element, ids=element.ids[:1]), 0)
            found: list[tuple[Element, Hashable]] = [(one, (place, n)) for n, one in enumerate(self._outs)]
            self._outs.clear()
            for one, id in found:
                self._came(one, id)
            if element.order in operator.windows(element.key):
                self._standing[place] = found
        for place, kept in touched.items():
            if operator.windows(kept.key).get(kept.start) is not kept:
                self._standing.pop(place, None)  # closed for good


def _place(id: str) -> str:
    return id.rpartition("|")[0]
