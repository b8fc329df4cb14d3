"""A running pipeline whose windows Spark keeps: ranges of the log out, complete windows in.

Each batch of Spark's is one transaction here: its windows' results through the rest of the pipeline into the sinks, the
position, the batch's number. A batch that comes again after a crash is known by its number.

State, beside the runtime's: "spark" -> {"epoch", "batch", "range", "ends", "taken"}. `ends`: those of windows that may be
open. `taken`: of windows whose records were taken back, those records, where, and where the window closed.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import orjson

from .. import when
from ..consume.consumer import Consumer, Pattern, Stopped
from ..consume.lease import lease
from ..engine.relation import Column
from ..engine.spark.feed import Shape, Spans, Tick
from ..engine.spark.pieces import Cut, reading, times
from ..engine.spark.streaming import Fold, Streaming
from ..errors import StorageError
from ..plan.select import Select
from ..record import SYSTEM
from ..unit import UnitOfWork
from .columns import Columnar
from .element import index_of
from .history import selects
from .kept import Kept
from .runtime import Runtime
from .windowed import Windowed
from .windows import Assigner

__all__ = ["Distributed"]

NEVER = -(2**62)
MOST = 2_000_000
"""How many positions make a range at most."""


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
    def empty(self) -> bool:
        return not len(self.positions) and self.after == self.until


class Distributed:
    """Drives one query, in the process that holds it.

    Args:
        name: the consumer's.
        place: a directory that the driver and the workers see, for checkpoints.
        session: Spark's.
    """

    def __init__(self, name: str, runtime: Runtime, plan: Columnar, place: Path, session: Any) -> None:
        self.name = name
        self._plan = plan
        self._runtime = runtime
        self._place = place
        self._session = session
        self._store = runtime.store
        self._operator: Windowed = runtime.operators[plan.stage]
        assert plan.step.window is not None
        self._window = plan.step.window
        self._assigner = Assigner(plan.step.window, self._store.tz)
        folds = [Fold(fold.made.operation, fold.instants) for _, fold in self._operator.folds]
        self._folds = folds
        self._names = [fold.names(n) for n, fold in enumerate(folds)]
        self._shape = Shape(len(plan.keys), tuple(fold.kind for fold in folds))
        self._columns = {"p": Column("position"), "t": Column("timestamp")}
        self._columns |= {
            "f": Column("flag", condition=plan.before),
            "g": Column("flag", condition=plan.after),
        }
        self._columns |= {f"k{n}": Column("key", field) for n, field in enumerate(plan.keys)}
        for n, value in enumerate(plan.values):
            if value is not None:
                self._columns[f"v{n}"] = Column(*value)
        self.consumer: Consumer
        self._query: Streaming | None = None
        self._hold = ExitStack()
        self._barred = 0.0

    @property
    def _pattern(self) -> Pattern:
        return replace(self._runtime.pipeline.source.pattern, since=self.consumer.pattern.since)

    @property
    def _state(self) -> dict[str, Any]:
        return self._runtime.state.get("spark") or {"batch": -1, "range": 0, "ends": [], "taken": {}}

    # taking what is new

    def step(self, after: int, pause: Callable[[float], bool]) -> bool:
        """Take the next range; False where there is nothing new, or another process has the query."""
        try:
            if self._query is None and not self._begin(after, pause):
                return False
            until = min(self._store.log.head(), self.consumer.position + MOST)
            made = self._range(self.consumer.position, until)
            if made.empty:
                return False
            if not len(made.positions) and made.taken == self._state["taken"]:
                self.consumer.position = until
                self.consumer.skip(until)
                return True
            self._run(made, pause)
        except Stopped:
            self.stop()
            return False
        except BaseException:
            self.stop()
            raise
        return True

    def _run(self, made: _Range, pause: Callable[[float], bool]) -> None:
        assert self._query is not None
        self._feed(self._query, made)
        self._settle(made, pause)

    def _feed(self, query: Streaming, made: _Range) -> None:
        query.feed(made.number, (made.after, made.until, made.before, made.mark), self._parts(made))

    def _settle(self, made: _Range, pause: Callable[[float], bool]) -> None:
        assert self._query is not None

        def take(batch: int, number: int, rows: Any) -> None:
            if batch <= self._state["batch"]:
                return  # committed here before a crash, and not yet by Spark
            if number not in (made.number, self._state["range"]):
                raise StorageError(
                    f"the checkpoint of {self.name} is at another place than the log: one of them was put "
                    'back from a backup. Begin anew by start(reset=True, since="start")'
                )
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
                arrivals = [
                    at
                    for name, at in list(self._store.writer.arrivals.items())
                    if self._pattern.may_want(*name)
                ]
                runtime.seen(int(made.times.max()), int(made.times.min()), max(arrivals, default=None))
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
                for position in times(session, [select], (0, changed["closed"]))[0].tolist()
            ]
        runtime, mine = self._runtime, index_of(kept.key)
        for stored in self._store.stored([position for position in found if position not in gone]):
            for element in runtime.before(runtime.element(stored), self._plan.stage):
                if self._pattern.wants(stored) and index_of(element.key) == mine:
                    self._operator.fold(kept, element)

    # ranges

    def _range(
        self, after: int, until: int, before: int | None = None, mark: int = NEVER, number: int | None = None
    ) -> _Range:
        """What is after one position and up to another.

        Args:
            before: the watermark before it, None: as it is.
            mark: the watermark after it at least.
            number: None: the next.
        """
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
        last = max(int(marks[-1]), mark)
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

    def _parts(self, made: _Range) -> list[Any]:
        """What Spark's workers read, by what."""
        parts: list[Any] = [Tick(made.mark)]
        if len(made.positions):
            cut = Cut(self._shape, self._columns, made.spans, made.met, made.before)
            with reading(self._store.engine) as session:
                for select in selects(session, self._pattern, self._pattern.since, None):
                    parts += cut.parts(session, select, (made.after, made.until))
        return parts

    # what is taken back

    def _taken_back(self, session: Any, after: int, until: int) -> list[tuple[int, int]]:
        """(record, retraction) of each retraction in a range, by position."""
        found, _ = times(session, [Select(kind=SYSTEM, names=("retract",))], (after, until))
        return [
            (orjson.loads(row.data)["position"], row.position) for row in self._store.stored(found.tolist())
        ]

    def _take_back(self, made: _Range, marks: Any, back: list[tuple[int, int]]) -> None:
        """Note the windows that a retraction changes while they are open, and where those close that are noted."""
        import numpy

        for position, at in back:
            stored = self._store.stored_at(position)
            if stored is None or not self._pattern.wants(stored):
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

    # the query

    def _begin(self, after: int, pause: Callable[[float], bool]) -> bool:
        """Start the query, and let it finish what a former process left; False where another process has it."""
        if not self._hold.enter_context(lease(self._store.log.locks, f"spark:{self.name}")):
            self._hold.close()
            self._barred = monotonic() + 1
            return False
        self._store.engine.queries.add(self)  # type: ignore[attr-defined]
        self._runtime.state.reload()
        if self._runtime.state.get("spark") is None:
            self._runtime.state.put("spark", {**self._state, "epoch": uuid.uuid4().hex[:12]})
            unit = UnitOfWork(self._store.log)
            self._runtime.state.save(unit)
            unit.commit()
        state = self._state
        size, slide = self._window.size, self._window.slide
        mine = hashlib.blake2b(self.name.encode(), digest_size=6).hexdigest()
        home = self._place / f"{quote(self.name, safe='')[:60]}-{mine}"
        directory = home / state["epoch"]
        for other in home.iterdir() if home.exists() else ():
            if other != directory:  # it was begun anew
                shutil.rmtree(other, ignore_errors=True)
        sliding = None if size == slide else (size, slide)
        self._query = query = Streaming(self._session, directory, self._shape, self._folds, sliding)
        if state["range"] and not query.exists:
            raise StorageError(
                f"the checkpoint of {self.name} is gone from {directory}: put it back, or begin anew by "
                'start(reset=True, since="start")'
            )
        # What Spark had begun comes to it as the same range again, from the files that there are now. Where nothing
        # was, an empty range lets it give out what its watermark had passed.
        for number in (state["range"], state["range"] + 1):
            begun = query.begun(number)
            made = self._range(*(begun or (after, after)), number=number)
            if begun is not None or number > state["range"]:
                self._feed(query, made)
        query.start()
        self._settle(made, pause)
        return True

    def stop(self) -> None:
        """End the query in this process; position, state and checkpoint are kept."""
        query, self._query = self._query, None
        if query is not None:
            query.stop()
        self._store.engine.queries.discard(self)  # type: ignore[attr-defined]
        self._hold.close()

    # the clock

    def due(self) -> int | None:
        """When the clock alone will make something fire."""
        if self.consumer.stopped or monotonic() < self._barred:
            return None
        ends = self._state["ends"][:1]
        ends += [
            end
            for n, operator in self._runtime.operators.items()
            if n != self._plan.stage and (end := operator.next_end()) is not None
        ]
        due = self._runtime.reaches(min(ends)) if ends else None
        if due is not None and self.consumer.position < self._store.log.head():
            return max(due, self._store.now() + 1)
        return due

    def tick(self, now: int) -> None:
        """Move the watermark with the clock where nothing new comes."""
        with self.consumer.lock, lease(self._store.log.locks, self.name) as mine:
            if not mine:
                self._barred = monotonic() + 1
                return
            pause = self.consumer.pause or (lambda _: True)
            after = self.consumer.load()
            try:
                if self._query is None and not self._begin(after, pause):
                    return
                after = self.consumer.position
                self._runtime.idle(now)
                self._run(self._range(after, after), pause)
            except Stopped:
                self.stop()
            except BaseException:
                self.stop()
                raise
