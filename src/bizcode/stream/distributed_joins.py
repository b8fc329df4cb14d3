"""A join of which Spark keeps both sides: pairs come back by their positions, and the user's function is called here.

State "spark", beside what every query has: {"mark", "gone", "alone"}. `mark`: the watermark that Spark has. `gone`: of records that were taken back
while they were kept, where, the watermark then, and their time. `alone`: left rows that have no partner since those
were taken back, with time and key: Spark, which knew one, will not give them. Both by position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..consume.consumer import Pattern, Stopped
from ..engine import Session
from ..engine.spark.axis import Reach
from ..engine.spark.feed import Tick
from ..engine.spark.found import Found
from ..engine.spark.joins import Pairs
from ..engine.spark.pieces import Cut, reading, times
from ..unit import UnitOfWork
from .columns import Beginning, columns_of
from .distributed import Distributed
from .history import selects
from .replayed import Moments, Replay
from .runtime import NEVER, Runtime
from .steps import Join

__all__ = ["DistributedJoin"]

LATE = 2**61
"""A watermark that is of no use to any time."""
SLACK = 10_000
"""Spark may take so long, in event time, to give what the watermark has passed, where years are long ago."""


@dataclass(frozen=True, slots=True)
class _Side:
    """The rows of one side."""

    positions: Any
    times: Any
    met: tuple[Any, Any]
    """Positions of rows that came behind the watermark, and the one that they met."""
    late: list[int]


@dataclass(frozen=True, slots=True)
class _Range:
    """One range as it is taken. Watermarks are those of both sides, before it and after it."""

    number: int
    after: int
    until: int
    before: tuple[int, int]
    mark: tuple[int, int]
    sides: tuple[_Side, _Side]
    moments: Moments
    back: list[tuple[int, int, int]]
    """Records that were taken back, their times, and where."""
    moves: bool
    """Whether Spark is to know of it."""

    @property
    def about(self) -> Any:
        return self.after, self.until, self.before, self.mark

    @property
    def empty(self) -> bool:
        return self.after == self.until


class DistributedJoin(Distributed):
    """See Distributed.

    Args:
        begins: how the sides begin, which is all of them.
    """

    most = 200_000  # Spark keeps all rows of a range at once, and lets go of what is over in the next one
    nothing = {"mark": NEVER, "gone": {}, "alone": {}}

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        begins: tuple[Beginning, Beginning],
        place: Path,
        session: Any,
    ) -> None:
        super().__init__(name, runtime, place, session)
        self._join: Join = runtime.pipeline.source
        within, lateness = self._join.within, runtime.options.lateness
        self.plan = Pairs(len(begins[0].keys), within, lateness, self._join.kind == "left")
        self._columns = [columns_of(begin) for begin in begins]
        self._lateness = lateness
        self._reach = within + lateness
        self._open: Any = None

    @property
    def _patterns(self) -> list[Pattern]:
        return [self._since(side.pipeline.source.pattern) for side in self._runtime.sides]

    @property
    def _found(self) -> Found:
        return Found(self._directory / "found", self._reach)

    # ranges

    def _range(
        self, after: int, until: int, before: Any = None, mark: Any = None, number: int | None = None
    ) -> _Range:
        import numpy

        runtime = self._runtime
        before = before or tuple(side.watermark for side in runtime.sides)
        with reading(self._store.engine) as session:
            rows = [self._rows(session, pattern, after, until) for pattern in self._patterns]
            back = self._taken_back(session, after, until) if until > after else []
        positions = numpy.union1d(rows[0][0], rows[1][0])
        own = [
            numpy.maximum.accumulate(numpy.concatenate(([least], moments - side.options.out_of_order)))
            for least, (_, moments), side in zip(before, rows, runtime.sides, strict=True)
        ]
        # The watermarks of the sides after each record of either.
        both = [
            marks[numpy.searchsorted(mine, positions, side="right")]
            for marks, (mine, _) in zip(own, rows, strict=True)
        ]
        ends = [int(marks[-1]) for marks in own] if mark is None else mark
        last = tuple(max(end, int(marks[-1])) for end, marks in zip(ends, own, strict=True))
        marks = numpy.concatenate(([min(before)], numpy.minimum(*both), [min(last)]))
        at = [numpy.searchsorted(positions, mine) for mine, _ in rows]
        # A record of both sides comes to the right one when it has moved the left one's watermark.
        met = (marks[at[0]], numpy.minimum(both[0][at[1]], own[1][:-1]))
        sides = [
            self._side(*found, marks[places], those)
            for found, places, those in zip(rows, at, met, strict=True)
        ]
        return _Range(
            number=self._state["range"] + 1 if number is None else number,
            after=after,
            until=until,
            before=before,
            mark=last,  # type: ignore[arg-type]
            sides=(sides[0], sides[1]),
            moments=Moments(after, positions, marks),
            back=self._of_ours(back),
            moves=number is not None or bool(len(positions)) or min(last) > self._state["mark"],
        )

    def _rows(self, session: Session, pattern: Pattern, after: int, until: int) -> tuple[Any, Any]:
        chosen = selects(session, pattern, pattern.since, None) if until > after else []
        return times(session, chosen, (after, until))

    def _side(self, positions: Any, moments: Any, kept: Any, met: Any) -> _Side:
        """
        Args:
            kept: the watermark by which the other side's rows were kept as each came.
            met: the one that it met itself.
        """
        import numpy

        late = moments + self._reach < met
        behind = late | (moments + self._lateness < kept)
        marks = numpy.where(late, LATE, kept)
        return _Side(positions, moments, (positions[behind], marks[behind]), positions[late].tolist())

    def _of_ours(self, back: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        where = dict(reversed(back))
        return [
            (row.position, row.time, where[row.position])
            for row in self._store.stored(list(where))
            if any(pattern.wants(row) for pattern in self._patterns)
        ]

    def _changes(self, made: _Range) -> bool:
        return made.moves or bool(made.back)

    def _parts(self, made: _Range) -> list[list[Any]]:
        reach, mark = Reach(self._reach), int(made.moments.marks[0])
        sides: list[list[Any]] = [[Tick(reach.axis(made.moments.last))] for _ in made.sides]
        with reading(self._store.engine) as session:
            for n, (side, pattern) in enumerate(zip(made.sides, self._patterns, strict=True)):
                if len(side.positions):
                    cut = Cut(self.plan.shapes[n], self._columns[n], reach, side.met, mark)
                    for select in selects(session, pattern, pattern.since, None):
                        sides[n] += cut.parts(session, select, (made.after, made.until))
        return sides

    # what comes of them

    def _waits(self) -> bool:
        return False

    def _run(self, made: _Range, pause: Callable[[float], bool]) -> None:
        if made.moves:
            super()._run(made, pause)
        else:
            self._done(made, pause)

    def _settle(self, made: _Range, pause: Callable[[float], bool]) -> None:
        assert self._query is not None
        found = self._found

        def keep(batch: int, number: int, rows: Any) -> None:
            if number not in (made.number, self._state["range"]):
                raise self._strange()
            if batch > self._state["batch"]:
                found.put(batch, rows)

        self._query.settle(keep)
        self._done(made, pause)

    def _done(self, made: _Range, pause: Callable[[float], bool]) -> None:
        """Commit what a range led to. All of it is there."""
        done = self.consumer.in_unit(lambda unit: self._commit(unit, made), made.until, pause)
        if done is None:
            raise Stopped
        self._found.close(self._state["batch"], made.moments.last)
        self._opened(made)

    def _commit(self, unit: UnitOfWork, made: _Range) -> None:
        runtime, state = self._runtime, self._state
        found, batch = self._found.new(state["batch"])
        gone = {int(position): entry for position, entry in state["gone"].items()}
        alone = {int(position): entry for position, entry in state["alone"].items()}
        late = [(position, n) for n, side in enumerate(made.sides) for position in side.late]
        known = lambda: self._found.known(state["batch"])  # noqa: E731
        Replay(runtime, self._join, made.moments, found, known, late, made.back, gone, alone).run()
        for part, side, mark, pattern in zip(
            runtime.sides, made.sides, made.mark, self._patterns, strict=True
        ):
            if len(side.times):
                part.seen(int(side.times.max()), int(side.times.min()), self._arrived(pattern))
            part.reach(mark)
        # So long a record can be in a pair that something still depends on.
        since = made.moments.last - self._reach - 2 * self._join.within - SLACK
        kept = {str(position): entry for position, entry in gone.items() if entry[2] >= since}
        waiting = {str(position): entry for position, entry in alone.items()}
        state = {**state, "batch": batch, "gone": kept, "alone": waiting}
        if made.moves:
            state |= {"range": made.number, "mark": made.moments.last}
        runtime.state.put("spark", state)
        runtime.state.save(unit)

    # the clock

    def _ends(self) -> list[int]:
        ends = [
            end for operator in self._runtime.operators.values() if (end := operator.next_end()) is not None
        ]
        if self._join.kind == "left":
            if self._open is None:
                self._open = self._kept()
            first = self._open.searchsorted(self._runtime.watermark - self._join.within)
            if first < len(self._open):
                ends.append(int(self._open[first]) + self._join.within + 1)
        return ends

    def _kept(self) -> Any:
        """The times of rows that the watermark has not passed, in order."""
        import numpy

        least, until = self._runtime.watermark - self._join.within, self.consumer.load()
        with reading(self._store.engine) as session:
            found = []
            for pattern in self._patterns:
                low = max(least, pattern.since or least)
                chosen = selects(session, pattern, low if low > -(2**60) else None, None)
                found.append(times(session, chosen, (self._state.get("from", until), until))[1])
        return numpy.sort(numpy.concatenate(found))

    def _opened(self, made: _Range) -> None:
        import numpy

        if self._join.kind == "left" and self._open is not None:
            every = numpy.concatenate([self._open, *(side.times for side in made.sides)])
            self._open = numpy.sort(every[every + self._join.within >= made.moments.last])
