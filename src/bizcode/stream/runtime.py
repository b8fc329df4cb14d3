"""One running pipeline: elements in, watermark forward, results into sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from ..consume import Pattern
from ..consume.consumer import call
from ..consume.dead import bury
from ..plan.fields import MISSING
from ..record import SYSTEM, Stored, record_of
from ..unit import UnitOfWork, current
from .element import Element, as_value
from .operators import Joined, Late, Windowed, field_of
from .sinks import Sinks
from .state import State
from .steps import Aggregate, Buffer, Enrich, Filter, FlatMap, Join, KeyBy, Map, Reduce, Sink, Throttle

if TYPE_CHECKING:
    from ..log import Transaction
    from .pipeline import Pipeline

__all__ = ["Runtime", "pattern_of"]

NEVER = -(2**62)


def pattern_of(pipeline: Pipeline) -> Pattern:
    """The records that a pipeline reads, of both sides of a join."""
    patterns = _patterns(pipeline)
    kinds = frozenset().union(*(p.kinds for p in patterns))
    return Pattern(kinds, None, lambda row: any(p.wants(row) for p in patterns), frozenset(("retract",)))


def _patterns(pipeline: Pipeline) -> list[Pattern]:
    if isinstance(pipeline.source, Join):
        return _patterns(pipeline.source.left) + _patterns(pipeline.source.right)
    return [pipeline.source.pattern]


class Runtime:
    """State and watermark of one pipeline. `collect` gets the elements that come out of its end."""

    def __init__(
        self,
        pipeline: Pipeline,
        name: str | None,
        collect: Callable[[Element], Any] | None = None,
        sinks: bool = True,
        prefix: str = "",
        state: State | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.store = pipeline.store
        self.state = State(self.store, name) if state is None else state
        self._name = name
        self._begun = self.store.now()
        self._collect = collect
        self._prefix = prefix
        options = pipeline.options
        self._sinks = Sinks(pipeline, name) if sinks else None
        self._operators: dict[int, Any] = {}
        for n, step in enumerate(pipeline.steps):
            if isinstance(step, (Aggregate, Reduce)):
                scoped = _Scoped(self.state, f"{prefix}{n}:")
                self._operators[n] = Windowed(step, n, scoped, self.store.tz, options.lateness)  # type: ignore[arg-type]
        self._sides: list[Runtime] = []
        self._joined: Joined | None = None
        if isinstance(pipeline.source, Join):
            join = pipeline.source
            self._joined = Joined(join, _Scoped(self.state, f"{prefix}join:"), self._guarded)  # type: ignore[arg-type]
            for side, inner in enumerate((join.left, join.right)):
                self._sides.append(
                    Runtime(inner, None, self._side(side), False, f"{prefix}side{side}:", self.state)
                )

    def _side(self, side: int) -> Callable[[Element], None]:
        def take(element: Element) -> None:
            assert self._joined is not None
            try:
                for joined in self._joined.take(side, element, self.watermark):
                    self._flow(joined, 0)
            except Late:
                self._late(element)

        return take

    # time

    @property
    def watermark(self) -> int:
        if self._sides:
            return min(side.watermark for side in self._sides)
        return self.state.get(f"{self._prefix}watermark", NEVER)

    def _seen(self, time: int) -> None:
        moved = time - self.pipeline.options.out_of_order
        if moved > self.watermark:
            self.state.put(f"{self._prefix}watermark", moved)
        # When it arrived is not recorded. Its own time is taken for it, so that elements found only after a
        # pause don't count as new; what is older than the stream (a backfill) or ahead of the clock arrived now.
        now = self.store.now()
        last = self.state.get(f"{self._prefix}at", self._begun)
        self.state.put(f"{self._prefix}at", max(last, time) if self._begun <= time <= now else now)

    def idle(self, now: int) -> None:
        """A source with nothing new for so long: its watermark follows the clock."""
        for side in self._sides:
            side.idle(now)
        if self._sides:
            return
        last = self.state.get(f"{self._prefix}at")
        options = self.pipeline.options
        if last is not None and now - last >= options.idle and now - options.out_of_order > self.watermark:
            self.state.put(f"{self._prefix}watermark", now - options.out_of_order)

    def advance(self, watermark: int | None = None) -> None:
        """Fire what the watermark has passed."""
        for side in self._sides:
            side.advance(watermark)
        at = self.watermark if watermark is None else watermark
        if self._joined is not None:
            for element in self._joined.advance(at):
                self._flow(element, 0)
        for n, operator in self._operators.items():
            for element in operator.advance(at):
                self._flow(element, n + 1)

    def due(self) -> int | None:
        """When the clock alone will make something fire."""
        ends = [
            op.next_end() for op in [*self._operators.values(), *([self._joined] if self._joined else [])]
        ]
        known = [end for end in ends if end is not None]
        if not known:
            inner = [d for side in self._sides if (d := side.due()) is not None]
            return min(inner, default=None)
        lasts = self._lasts()
        if not lasts:
            return None
        options = self.pipeline.options
        return max(min(known) + options.out_of_order, max(lasts) + options.idle)

    def _lasts(self) -> list[int]:
        if self._sides:
            return [at for side in self._sides for at in side._lasts()]
        at = self.state.get(f"{self._prefix}at")
        return [] if at is None else [at]

    # elements

    def take(self, row: Stored) -> None:
        """One record, through the whole pipeline."""
        if row.kind == SYSTEM:
            self.retract(orjson.loads(row.data)["position"])
            return
        for side in self._sides:
            side.take(row)
        if self._sides or not self.pipeline.source.pattern.wants(row):
            return
        record = record_of(row, self.store.log.store_id)
        self._flow(Element(record, row.time, row.position, row.position), 0)
        self._seen(row.time)

    def retract(self, position: int) -> None:
        for side in self._sides:
            side.retract(position)
        if self._joined is not None:
            self._joined.retract(position)
        for n, operator in self._operators.items():
            for element in operator.retract(position):
                self._flow(element, n + 1)

    def _flow(self, element: Element, n: int) -> None:
        """An element from a step on, with retries around what raises."""
        steps = self.pipeline.steps
        unit = current(self.store.log)
        attempts = 0
        while True:
            mark = None if unit is None else unit.mark()
            try:
                outs = list(self._step(steps[n], element, n)) if n < len(steps) else [element]
            except Late:
                self._late(element)
                return
            except Exception as error:  # noqa: BLE001 - whatever a user's function raises
                if unit is not None and mark is not None:
                    unit.reset(mark)
                attempts += 1
                if attempts > self.pipeline.options.retries:
                    self._failed(error, element, attempts)
                    return
                continue
            break
        for out in outs:
            if n >= len(steps):
                if self._collect is not None:
                    self._collect(out)
            else:
                self._flow(out, n + 1)

    def _guarded(self, function: Callable[..., Any], *given: Any) -> Any:
        return given if function is None else call(function, *given)

    def _step(self, step: Any, element: Element, n: int) -> Iterator[Element]:
        if isinstance(step, Filter):
            if step.condition.matches(element.value):
                yield element
        elif isinstance(step, Map):
            value = call(step.function, element.value)
            if value is not None:
                yield element.with_value(value)
        elif isinstance(step, FlatMap):
            for value in call(step.function, element.value) or ():
                yield element.with_value(value)
        elif isinstance(step, Enrich):
            value = call(step.function, element.value, self.pipeline.biz)
            yield element if value is None else element.with_value(value)
        elif isinstance(step, KeyBy):
            yield self._keyed(step, element)
        elif isinstance(step, Throttle):
            if self._passes(step, element, n):
                yield element
        elif isinstance(step, Buffer):
            yield element
        elif isinstance(step, Sink):
            if self._sinks is not None:
                self._sinks.write(step, element)
            yield element
        else:
            yield from self._operators[n].take(element, self.watermark)

    def _keyed(self, step: KeyBy, element: Element) -> Element:
        from dataclasses import replace

        found = []
        for part in step.parts:
            value = field_of(element, part) if isinstance(part, str) else call(part, element.value)
            if value is MISSING:
                self.count("unknown")
                value = None
            found.append(value)
        key = found[0] if len(found) == 1 else tuple(found)
        return replace(element, key=key, names=step.names)

    def _passes(self, step: Throttle, element: Element, n: int) -> bool:
        from .operators import key_text

        place = f"{self._prefix}throttle{n}:{key_text(element.key)}"
        last = self.state.get(place)
        if last is not None and element.time < last + step.micros:
            return False
        self.state.put(place, element.time)
        return True

    # what goes wrong

    def count(self, what: str) -> None:
        place = f"{self._prefix}count:{what}"
        self.state.put(place, self.state.get(place, 0) + 1)

    def _late(self, element: Element) -> None:
        self.count("late")
        if self.pipeline.options.late is not None:
            call(self.pipeline.options.late, element.value)

    def _failed(self, error: Exception, element: Element, attempts: int) -> None:
        self.count("dead")
        on_error = self.pipeline.options.on_error
        if on_error is not None:
            call(on_error, error, element.value)
            return
        unit = current(self.store.log)
        if unit is None:
            raise error
        name, now, position = f"stream:{self._name}", self.store.now(), element.origin
        data = as_value(element.value) if position is None else None
        key = None if position is not None else f"{element.time}-{element.order}"

        def keep(tx: Transaction) -> None:
            bury(tx, name, position, error, attempts, now, data, key)

        unit.action(keep)

    def batch(self, unit: UnitOfWork, rows: list[Stored]) -> None:
        """A batch of records; all that follows from it is in the unit."""
        for row in self._bounded(rows):
            self.take(row)
            # Between records, not only between batches: results must not depend on how the input was cut.
            self.advance()
        self.state.save(unit)

    def _bounded(self, rows: list[Stored]) -> list[Stored]:
        for step in self.pipeline.steps:
            if isinstance(step, Buffer) and step.overflow != "block" and len(rows) > step.size:
                rows = rows[-step.size :] if step.overflow == "drop_oldest" else rows[: step.size]
        return rows

    def open(self) -> int:
        """How many windows and joins are open."""
        found = sum(operator.open() for operator in self._operators.values())
        return found + (self._joined.open() if self._joined else 0) + sum(side.open() for side in self._sides)


class _Scoped:
    """A part of the state, under a prefix of its own."""

    def __init__(self, state: State, prefix: str) -> None:
        self._state = state
        self._prefix = prefix

    def get(self, key: str, default: Any = None) -> Any:
        return self._state.get(self._prefix + key, default)

    def put(self, key: str, value: Any) -> None:
        self._state.put(self._prefix + key, value)

    def drop(self, key: str) -> None:
        self._state.drop(self._prefix + key)

    def keys(self, prefix: str) -> list[str]:
        cut = len(self._prefix)
        return [key[cut:] for key in self._state.keys(self._prefix + prefix)]
