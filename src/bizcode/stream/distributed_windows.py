"""A pipeline whose first windows Spark keeps: complete windows come back, with the states of their folds.

State "spark", beside what every query has: {"ends", "taken"}. `ends`: those of windows that may be open. `taken`: of
windows whose records were taken back, those records, where, and where the window closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from .. import when
from ..consume.consumer import Pattern, Stopped
from ..engine.relation import Column
from ..engine.spark.axis import Spans
from ..engine.spark.feed import Shape, Tick
from ..engine.spark.pieces import Cut, reading, times
from ..engine.spark.windows import Fold, Windows
from ..unit import UnitOfWork
from .columns import Columnar, columns_of
from .distributed import Distributed
from .element import index_of
from .history import selects
from .kept import Kept
from .runtime import Runtime
from .windowed import Windowed
from .windows import Assigner

__all__ = ["DistributedWindows"]


@dataclass(frozen=True, slots=True)
class _Range:
    """One range as it is taken: what is known of it before Spark has seen it."""

    number: int
    after: int
    until: int
    before: int
    mark: int
    """The watermark before it and after it."""
    positions: Any
    times: Any
    met: tuple[Any, Any]
    """Positions of rows that came when a window of theirs had ended, and the watermark that they met."""
    late: list[int]
    """Those for which all had."""
    spans: Spans
    ends: list[int]
    taken: dict[str, dict[str, Any]]

    @property
    def about(self) -> Any:
        return self.after, self.until, self.before, self.mark

    @property
    def empty(self) -> bool:
        return not len(self.positions) and self.after == self.until


class DistributedWindows(Distributed):
    """See Distributed."""

    nothing = {"ends": [], "taken": {}}

    def __init__(self, name: str, runtime: Runtime, plan: Columnar, place: Path, session: Any) -> None:
        super().__init__(name, runtime, place, session)
        self._plan = plan
        self._operator: Windowed = runtime.operators[plan.stage]
        assert plan.step.window is not None
        self._window = plan.step.window
        self._assigner = Assigner(plan.step.window, self._store.tz)
        folds = [Fold(fold.made.operation, fold.instants) for _, fold in self._operator.folds]
        self._folds = folds
        self._names = [fold.names(n) for n, fold in enumerate(folds)]
        self._shape = Shape(len(plan.keys), tuple(fold.kind for fold in folds))
        size, slide = self._window.size, self._window.slide
        self.plan = Windows(self._shape, tuple(folds), None if size == slide else (size, slide))
        self._columns = columns_of(plan)
        for n, value in enumerate(plan.values):
            if value is not None:
                self._columns[f"v{n}"] = Column(*value)

    @property
    def _pattern(self) -> Pattern:
        return self._since(self._runtime.pipeline.source.pattern)

    def _changes(self, made: _Range) -> bool:
        return bool(len(made.positions)) or made.taken != self._state["taken"]

    def _waits(self) -> bool:
        return self._state["range"] > 0

    def _ends(self) -> list[int]:
        return self._state["ends"][:1] + [
            end
            for n, operator in self._runtime.operators.items()
            if n != self._plan.stage and (end := operator.next_end()) is not None
        ]

    def _settle(self, made: _Range, pause: Callable[[float], bool]) -> None:
        assert self._query is not None

        def take(batch: int, number: int, rows: Any) -> None:
            if batch <= self._state["batch"]:
                return  # committed here before a crash, and not yet by Spark
            if number not in (made.number, self._state["range"]):
                raise self._strange()
            new = made if number == made.number else None
            until = self.consumer.position if new is None else new.until
            done = self.consumer.in_unit(lambda unit: self._commit(unit, batch, new, rows), until, pause)
            if done is None:
                raise Stopped

        self._query.settle(take)
        if len(self._runtime.operators) > 1:
            # Windows over the windows' results: all of those that the watermark lets go are there now.
            self.consumer.in_unit(self._advance, self.consumer.position, pause)

    def _advance(self, unit: UnitOfWork) -> None:
        self._runtime.advance()
        self._runtime.state.save(unit)

    def _commit(self, unit: UnitOfWork, batch: int, made: _Range | None, rows: Any) -> None:
        """A batch, with the range that it is the first of."""
        runtime, state = self._runtime, self._state
        if made is not None and state["range"] < made.number:
            for stored in self._store.stored(made.late):
                for element in runtime.before(runtime.element(stored), self._plan.stage):
                    runtime.late(element)
            if len(made.times):
                runtime.seen(int(made.times.max()), int(made.times.min()), self._arrived(self._pattern))
            runtime.reach(made.mark)
            state = {**state, "range": made.number, "ends": made.ends, "taken": made.taken}
        taken = dict(state["taken"])
        for kept in self._windows(rows, taken):
            for result in self._operator.once(kept):
                runtime.flow(result, self._plan.stage + 1)
        runtime.state.put("spark", {**state, "batch": batch, "taken": taken})
        runtime.state.save(unit)

    # results

    def _windows(self, rows: Any, taken: dict[str, dict[str, Any]]) -> list[Kept]:
        """Complete windows in the order in which they end."""
        fields, parts = self._plan.names, range(len(self._plan.keys))
        made = []
        for row in rows.to_pylist():
            found = [None if row[f"k{n}"] is None else orjson.loads(row[f"k{n}"]) for n in parts]
            key = None if not found else found[0] if len(found) == 1 else tuple(found)
            kept = self._operator.unkept(key, fields, row["s"], row["e"])
            changed = taken.pop(kept.place, None)
            if changed is not None:
                self._made_again(kept, changed)
            else:
                kept.count = row["n"]
                kept.states = [
                    fold.state([row[name] for name in names], row["n"])
                    for fold, names in zip(self._folds, self._names, strict=True)
                ]
            if kept.count:
                made.append(kept)
        return sorted(made, key=lambda kept: (kept.end, kept.start, kept.place))

    def _made_again(self, kept: Kept, changed: dict[str, Any]) -> None:
        """A window of the log's records, without those that were taken back before it closed."""
        gone = {position for position, at in changed["gone"] if at <= changed["closed"]}
        with reading(self._store.engine) as session:
            found = [
                position
                for select in selects(session, self._pattern, kept.start, kept.end)
                for position in times(session, [select], (self._state["from"], changed["closed"]))[0].tolist()
            ]
        runtime, mine = self._runtime, index_of(kept.key)
        for stored in self._store.stored([position for position in found if position not in gone]):
            for element in runtime.before(runtime.element(stored), self._plan.stage):
                if self._pattern.wants(stored) and index_of(element.key) == mine:
                    self._operator.fold(kept, element)

    # ranges

    def _range(
        self,
        after: int,
        until: int,
        before: int | None = None,
        mark: int | None = None,
        number: int | None = None,
    ) -> _Range:
        import numpy

        runtime, state = self._runtime, self._state
        before = runtime.watermark if before is None else before
        with reading(self._store.engine) as session:
            chosen = selects(session, self._pattern, self._pattern.since, None) if until > after else []
            positions, moments = times(session, chosen, (after, until))
            back = self._taken_back(session, after, until) if until > after else []
        marks = numpy.maximum.accumulate(
            numpy.concatenate(([before], moments - runtime.options.out_of_order))
        )
        last = int(marks[-1]) if mark is None else max(int(marks[-1]), mark)
        spans = self._spans(moments)
        starts, ends = spans.of(moments)
        size, slide = self._window.size, self._window.slide
        behind = ends <= marks[:-1]
        whole = ends if size == slide else starts + size
        late = whole <= marks[:-1]
        open_ends = set(state["ends"]) | set(ends.tolist())
        if size != slide:
            for end in numpy.unique(ends).tolist():
                open_ends.update(range(end, end + size - slide + 1, slide))
        made = _Range(
            number=state["range"] + 1 if number is None else number,
            after=after,
            until=until,
            before=before,
            mark=last,
            positions=positions,
            times=moments,
            met=(positions[behind], marks[:-1][behind]),
            late=positions[late].tolist(),
            spans=spans,
            ends=sorted(end for end in open_ends if end > last),
            taken={place: dict(entry) for place, entry in state["taken"].items()},
        )
        self._take_back(made, marks, back)
        return made

    def _spans(self, moments: Any) -> Spans:
        unit = self._window.unit
        if unit is None or not len(moments):
            return Spans(self._window.slide)
        edges = when.buckets(int(moments.min()), int(moments.max()) + 1, unit, self._store.tz)
        return Spans(0, (*edges, when.next_bucket(edges[-1], unit, self._store.tz)))

    def _parts(self, made: _Range) -> list[list[Any]]:
        parts: list[Any] = [Tick(made.spans.axis(made.mark))]
        if len(made.positions):
            cut = Cut(self._shape, self._columns, made.spans, made.met, made.before)
            with reading(self._store.engine) as session:
                for select in selects(session, self._pattern, self._pattern.since, None):
                    parts += cut.parts(session, select, (made.after, made.until))
        return [parts]

    # what is taken back

    def _take_back(self, made: _Range, marks: Any, back: list[tuple[int, int]]) -> None:
        """Note the windows that a retraction changes while they are open, and where those close that are noted."""
        import numpy

        for position, at in back:
            stored = self._store.stored_at(position)
            if stored is None or position <= self._state.get("from", 0) or not self._pattern.wants(stored):
                continue
            mark = int(marks[numpy.searchsorted(made.positions, at)])
            for element in self._runtime.before(self._runtime.element(stored), self._plan.stage):
                for start, end in self._assigner.spans(element.time):
                    if end > mark:
                        place = self._operator.unkept(element.key, element.names, start, end).place
                        entry = made.taken.setdefault(place, {"gone": [], "closed": None, "end": end})
                        entry["gone"] = [*entry["gone"], [position, at]]
        for entry in made.taken.values():
            if entry["closed"] is None and entry["end"] <= made.mark:
                at = int(numpy.searchsorted(marks[1:], entry["end"]))
                entry["closed"] = int(made.positions[at]) if at < len(made.positions) else made.until
