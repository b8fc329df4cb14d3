"""One running pipeline: elements in, watermark forward, results into sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from ..consume import Pattern
from ..consume.consumer import Stopped, call
from ..record import SYSTEM, Stored, record_of
from ..unit import UnitOfWork, current
from .element import Element, Late, gone, index_of
from .history import between
from .joined import Joined
from .kept import Kept
from .letters import Letters, Trial
from .options import of_side
from .sinks import Sinks
from .stages import Run, stage
from .state import Scoped, State
from .steps import Aggregate, Buffer, Join, Reduce, Sink, Throttle
from .waiting import Waiting
from .windowed import Windowed

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["NEVER", "Runtime", "pattern_of"]

NEVER = -(2**62)
_KEPT = ("track", "measure", "view")


def pattern_of(pipeline: Pipeline) -> Pattern:
    """The records that a pipeline reads, of both sides of a join."""
    patterns = _patterns(pipeline)
    kinds = frozenset().union(*(p.kinds for p in patterns))
    names = frozenset().union(*(p.names or () for p in patterns))
    exact = names if all(p.names is not None and p.test is None for p in patterns) else None
    return Pattern(kinds, exact, lambda row: any(p.wants(row) for p in patterns), frozenset(("retract",)))


def _patterns(pipeline: Pipeline) -> list[Pattern]:
    if isinstance(pipeline.source, Join):
        return _patterns(pipeline.source.left) + _patterns(pipeline.source.right)
    return [pipeline.source.pattern]


def _written(pipeline: Pipeline) -> list[tuple[int, Sink]]:
    """The sinks, by stage, that write each element of the source as it is, and take it back with it."""
    found: list[tuple[int, Sink]] = []
    if isinstance(pipeline.source, Join):
        return found
    for n, step in enumerate(pipeline.steps):
        if isinstance(step, (Aggregate, Reduce)):
            break
        throttled = any(isinstance(before, Throttle) for before in pipeline.steps[:n])
        if isinstance(step, Sink) and step.kind in (("track", "measure") if throttled else _KEPT):
            found.append((n, step))
    return found


class Runtime:
    """State and watermark of one pipeline. `collect` gets the elements that come out of its end."""

    def __init__(
        self,
        pipeline: Pipeline,
        name: str | None,
        collect: Callable[[Element], Any] | None = None,
        sinks: bool = True,
        prefix: str = "",
        parent: Runtime | None = None,
        generation: int = 0,
    ) -> None:
        self.pipeline = pipeline
        self.options = pipeline.effective
        self.store = pipeline.store
        self.state = State(self.store, name) if parent is None else parent.state
        self.name = name
        self.pause: Callable[[float], bool] | None = None if parent is None else parent.waited
        self.operators: dict[int, Windowed] = {}
        self._buffers: dict[int, Waiting] = {}
        self.letters: Letters = Letters(self) if parent is None else parent.letters
        self.prefix = prefix
        self._parent = parent
        self._begun = self.store.now()
        self._collect = collect
        self.sinks = Sinks(pipeline, name, generation) if sinks else None
        self._written = _written(pipeline) if sinks else []
        self._run = [self._compiled(step, n) for n, step in enumerate(pipeline.steps)]
        self.sides: list[Runtime] = []
        """Of a join: its two."""
        self._joined: Joined | None = None
        if isinstance(pipeline.source, Join):
            join = pipeline.source
            scoped = Scoped(self.state, f"{prefix}join:")
            self._joined = Joined(join, scoped, self.paired, self.options.lateness)
            for side, inner in enumerate((join.left, join.right)):
                source = replace(inner, options=of_side(pipeline.options, inner.options))
                self.sides.append(
                    Runtime(source, None, self._side(side), False, f"{prefix}side{side}:", self)
                )
        self.state.loader(self._load)
        self.state.before_save.append(self._save)

    def _load(self) -> None:
        self._mark: int = self.state.get(f"{self.prefix}watermark", NEVER)
        self._at: int | None = self.state.get(f"{self.prefix}at")
        self._moved = False
        for operator in self.operators.values():
            operator.mark = self.watermark

    def _save(self) -> None:
        if self._moved:
            self.state.put(f"{self.prefix}watermark", self._mark)
            self.state.put(f"{self.prefix}at", self._at)
            self._moved = False

    def _side(self, side: int) -> Callable[[Element], None]:
        def take(element: Element) -> None:
            assert self._joined is not None
            try:
                for joined in self._joined.take(side, element, self.watermark):
                    self.flow(joined, 0)
            except Late:
                self.late(element)

        return take

    @property
    def _root(self) -> Runtime:
        return self if self._parent is None else self._parent._root

    # time

    @property
    def watermark(self) -> int:
        if self.sides:
            return min(side.watermark for side in self.sides)
        return self._mark

    def seen(self, time: int, earliest: int | None = None, arrived: int | None = None) -> None:
        """Something with that time came (and others, the earliest of them with that one); `arrived`: when such
        a one was last written here with a time of its own."""
        moved = time - self.options.out_of_order
        if moved > self._mark:
            self._mark = moved
        # When it arrived is not recorded, but for what this process gave a time of its own. Else its own time is
        # taken for it, so that elements found only after a pause don't count as new; what is older than the
        # stream (a backfill) or ahead of the clock arrived now.
        now = self.store.now()
        usual = self._begun <= (time if earliest is None else earliest) and time <= now
        last = self._begun if self._at is None else self._at
        self._at = max(last, time, arrived or time) if usual else now
        self._moved = True

    @property
    def beginning(self) -> tuple[int, int | None]:
        """The position up to which nothing came in, and the time before which nothing did, if there is one."""
        after, since = self.state.get("begun") or (0, None)
        return after, since

    def reach(self, watermark: int) -> None:
        """The watermark is there; it never goes back."""
        if watermark > self._mark:
            self._mark = watermark
            self._moved = True

    def idle(self, now: int) -> None:
        """A source with nothing new for so long: its watermark follows the clock."""
        for side in self.sides:
            side.idle(now)
        last = self._last()
        if self.sides or last is None:
            return
        options = self.options
        if now - last >= options.idle and now - options.out_of_order > self._mark:
            self._mark = now - options.out_of_order
            self._moved = True

    def _last(self) -> int | None:
        """When something came last. A side of a join that has never had anything is counted from the beginning:
        it would hold up the other one for ever."""
        return self._begun if self._at is None and self._parent else self._at

    def advance(self, watermark: int | None = None) -> None:
        """Fire what the watermark has passed. A stage is moved on only when the former one has fired, whose
        results are in time for it."""
        for side in self.sides:
            side.advance(watermark)
        at = self.watermark if watermark is None else watermark
        if self._joined is not None:
            for element in self._joined.advance(at):
                self.flow(element, 0)
        for n, operator in self.operators.items():
            if any(waiting and stage < n for stage, waiting in self._buffers.items()):
                return  # what waits comes before
            for element in operator.advance(at):
                self.flow(element, n + 1)

    def due(self) -> int | None:
        """When the clock alone will make something fire."""
        ends = [op.next_end() for op in [*self.operators.values(), *([self._joined] if self._joined else [])]]
        known = [end for end in ends if end is not None]
        mine = self.reaches(min(known)) if known else None
        found = [mine, *(side.due() for side in self.sides)]
        return min((due for due in found if due is not None), default=None)

    def reaches(self, watermark: int) -> int | None:
        """When the watermark will be there at the latest, by the clock; None if never."""
        if self.sides:
            found = [side.reaches(watermark) for side in self.sides]
            return None if None in found else max(at for at in found if at is not None)
        if self._mark >= watermark:
            return NEVER
        last = self._last()
        if last is None:
            return None
        return max(watermark + self.options.out_of_order, last + self.options.idle)

    # elements

    def take(self, row: Stored) -> None:
        """One record, through the whole pipeline."""
        if row.kind == SYSTEM:
            self.retract(orjson.loads(row.data)["position"], row.position)
            return
        for side in self.sides:
            side.take(row)
        if self.sides or not self.pipeline.source.pattern.wants(row):
            return
        self.flow(self.element(row), 0)
        self.seen(row.time, arrived=self.store.writer.arrivals.get((row.kind, row.name)))

    def element(self, row: Stored) -> Element:
        """A record as it enters the pipeline."""
        ids = (f"@{row.position}",) if self._written else ()
        record = record_of(row, self.store.log.store_id)
        return Element(record, row.time, row.position, row.position, ids=ids)

    def retract(self, position: int, at: int) -> None:
        """A record is taken back: its windows are made again without it.

        Args:
            at: the position of the retraction; what came later is not in the windows yet.
        """
        if self.sides:
            row = self.store.stored_at(position)
            if row is None or not any(pattern.wants(row) for pattern in _patterns(self.pipeline)):
                return
        for side in self.sides:
            side.retract(position, at)
        for waiting in self._buffers.values():
            waiting.retract(position)
        if self._joined is not None:
            for withdrawn in self._joined.retract(position, self.watermark):
                self.flow(withdrawn, 0)
            return
        first = next(iter(self.operators), None)
        row = None if first is None and not self._written else self.store.stored_at(position)
        after, since = self.beginning
        pattern = replace(self.pipeline.source.pattern, since=since)
        if row is None or position <= after or not pattern.wants(row):
            return

        def left(low: int, high: int, stage: int | None = first) -> Iterator[Element]:
            least = low if since is None else max(low, since)
            for other in between(self.store, pattern, least, high, after, at):
                yield from self.before(self.element(other), stage or 0)

        for n, sink in self._written:
            assert self.sinks is not None
            if sink.kind != "view":
                self.sinks.take_back(sink, f"@{position}")
                continue
            gone_from = {index_of(e.key): e for e in self.before(self.element(row), n)}
            rest = sorted(left(NEVER, -NEVER, n), key=lambda e: e.order) if gone_from else []
            last = {index_of(e.key): e for e in rest}
            for key, element in gone_from.items():
                if key not in last or last[key].order < element.order:
                    self.sinks.write(sink, last.get(key, gone(element)))
        if first is None:
            return
        for element in self.before(self.element(row), first):
            for result in self.operators[first].retract(element, left):
                self.flow(result, first + 1)

    def before(self, element: Element, stage: int) -> list[Element]:
        """An element as it comes to a stage: the steps before it, but for sinks and what counts time."""
        found = [element]
        for n, step in enumerate(self.pipeline.steps[:stage]):
            if not isinstance(step, (Sink, Throttle, Buffer)):
                found = [out for one in found for out in self._run[n](one)]
        return found

    def flow(self, element: Element, n: int) -> None:
        """An element from a step on."""
        runs = self._run
        while n < len(runs):
            if len(element.ids) > 1:
                self.letters.corrected(self, element.ids[1:], n)
            outs = self._attempted(runs[n], element)
            if not outs and len(element.ids) > 1 and n not in self.operators and n not in self._buffers:
                outs = (gone(element),)  # it left the pipeline, and so must what it stands for
            if len(outs) != 1:
                for out in outs:
                    self.flow(out, n + 1)
                return
            element = outs[0]
            n += 1
        if self._collect is not None:
            self._collect(element)

    def _attempted(self, run: Run, element: Element) -> Any:
        try:
            return run(element)
        except Late:
            self.late(element)
            return ()

    def attempt(self, function: Callable[[], Any], element: Element, trial: Trial) -> Any:
        """Call what is a user's, with retries; None if it failed for good, and the element is then a dead letter
        or `on_error`'s. What an attempt wrote is taken back."""
        unit = current(self.store.log)
        mark = None if unit is None else unit.mark()
        options = self.options
        attempts = 0
        while True:
            try:
                return function()
            except Exception as error:
                if unit is not None and mark is not None:
                    unit.reset(mark)
                attempts += 1
                if attempts > options.retries:
                    self._failed(error, element, attempts, trial)
                    return None
                wait = options.backoff / 1e6 * 2 ** (attempts - 1)
                if self.pause is not None and not self.pause(wait):
                    raise Stopped from error

    def paired(self, function: Callable[..., Any] | None, given: tuple[Any, ...], element: Element) -> Any:
        """What a join's function makes of a pair, with retries; None if it failed for good."""
        if function is None:
            return given
        return self.attempt(lambda: call(function, *given), element, Trial("join", 0))

    def waited(self, seconds: float) -> bool:
        """Wait between attempts; False if the process is to stop."""
        return self.pause is None or self.pause(seconds)

    def part(self, prefix: str) -> Runtime | None:
        """This pipeline, or the side of a join with that prefix."""
        found = (side.part(prefix) for side in self.sides)
        return self if prefix == self.prefix else next((part for part in found if part is not None), None)

    def again(self, element: Element, trial: Trial) -> None:
        """Take up what had failed, where it had."""
        if trial.kind == "sink":
            self._attempted(self._run[trial.stage], element)
        elif trial.kind == "step":
            self.flow(element, trial.stage)
        elif trial.window is not None:
            for result in self.operators[trial.stage].again(trial.window):
                self.flow(result, trial.stage + 1)
        elif isinstance(self.pipeline.source, Join):
            value = self.paired(self.pipeline.source.function, element.value, element)
            if value is not None:
                self.flow(element.with_value(value), 0)

    # steps

    def _compiled(self, step: Any, n: int) -> Run:
        """What a step does with an element that is not withdrawn."""
        if isinstance(step, (Aggregate, Reduce)):
            scoped = Scoped(self.state, f"{self.prefix}{n}:")
            lateness = self.options.lateness
            corrected = isinstance(self.pipeline.source, Join) or bool(self.operators and lateness)

            def attempt(function: Callable[[], Any], element: Element, window: Kept | None = None) -> Any:
                return self.attempt(function, element, Trial("step" if window is None else "fold", n, window))

            made = Windowed(step, scoped, self.store.tz, lateness, attempt, corrected)
            self.operators[n] = made
            return made.take
        if isinstance(step, Buffer) and step.overflow != "block" and self._root.sinks is not None:
            waiting = self._buffers[n] = Waiting(step, self.state, f"{self.prefix}buffer{n}")
            return lambda element: waiting.take(element, self.store.log.head())
        return stage(self, step, n)

    # what goes wrong

    def count(self, what: str, more: int = 1) -> None:
        """Count what the stream's list shows."""
        place = f"{self.prefix}count:{what}"
        self.state.put(place, self.state.get(place, 0) + more)

    def late(self, element: Element) -> None:
        self.count("late")
        if self.options.late is not None:
            call(self.options.late, element.value)

    def _failed(self, error: Exception, element: Element, attempts: int, trial: Trial) -> None:
        self.count("dead")
        on_error = self.options.on_error
        if on_error is not None:
            try:
                call(on_error, error, element.value)
            except Stopped:
                raise
            except Exception as failed:  # noqa: BLE001 - the last resort failed too
                error = failed
            else:
                return
        self.letters.write(self, error, element, attempts, trial)

    def batch(self, unit: UnitOfWork, rows: list[Stored]) -> None:
        """A batch of records; all that follows from it is in the unit."""
        for row in rows:
            self.take(row)
            # Between records, not only between batches: results must not depend on how the input was cut.
            self.advance()
        self.finish(unit, rows[-1].position)

    def finish(self, unit: UnitOfWork, position: int) -> None:
        """The end of a batch, up to a position: what waited goes on if no more is to come before it."""
        if self._held() and not self._behind(position):
            self._release()
        self.state.save(unit)

    def _held(self) -> list[Waiting]:
        mine = [waiting for waiting in self._buffers.values() if waiting]
        return mine + [waiting for side in self.sides for waiting in side._held()]

    def _behind(self, position: int) -> bool:
        """Whether more comes after a position that was there when the first that waits came."""
        log = self.store.log
        if position >= min(waiting.until for waiting in self._held()) or position >= log.head():
            return False
        rows = log.read(position, limit=1_000)
        pattern = pattern_of(self.pipeline)
        return (
            position < self.store.segments.catalog().sealed_to
            or len(rows) == 1_000
            or any(pattern.wants(row) for row in rows)
        )

    def _release(self) -> None:
        for side in self.sides:
            side._release()
        for n, waiting in self._buffers.items():
            for element in waiting.release():
                self.flow(element, n + 1)
            self.advance()

    @property
    def waits(self) -> bool:
        """Whether something waits at a buffer."""
        return bool(self._held())

    def open(self) -> int:
        """How many windows and joins are open."""
        found = sum(operator.open() for operator in self.operators.values())
        return found + (self._joined.open() if self._joined else 0) + sum(side.open() for side in self.sides)
