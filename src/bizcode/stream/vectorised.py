"""Many records at once into windows, with the results that they would give one by one.

Rows that come in time for their windows are grouped by key and window and added group by group; the others (late,
or correcting what has fired) are taken one by one, at their place in the order.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import when
from .columns import Columnar, Columns, read, slices
from .windowed import Kept, Windowed

if TYPE_CHECKING:
    from ..unit import UnitOfWork
    from .runtime import Runtime

__all__ = ["Vectorised"]


class Vectorised:
    """Takes ranges of the log into a runtime's windows."""

    def __init__(self, runtime: Runtime, plan: Columnar) -> None:
        self._runtime = runtime
        self._plan = plan
        self._operator: Windowed = runtime.operators[plan.stage]
        self._out_of_order = runtime.pipeline.options.out_of_order
        window = plan.step.window
        assert window is not None
        self._window = window

    def batch(self, unit: UnitOfWork, after: int, until: int) -> bool:
        """The records after one position and up to another; False where they must be taken one by one."""
        if not self.take(after, until, live=True):
            return False
        self._runtime.state.save(unit)
        return True

    def take(self, after: int, until: int, live: bool, since: int | None = None) -> bool:
        """As batch, without keeping the state.

        Args:
            live: retractions are events of their own.
            since: only records from that time on.
        """
        runtime = self._runtime
        with runtime.store.engine.session() as session:
            pattern = runtime.pipeline.source.pattern
            if since is not None:
                pattern = replace(pattern, since=since)
            found = read(session, self._plan, pattern, after, until, live)
        if found is None:
            return False
        if len(found.times):
            with _without_collector():
                self._into(found)
        return True

    def _into(self, found: Columns) -> None:
        import numpy

        runtime, operator = self._runtime, self._operator
        if found.unknown:
            runtime.count("unknown", found.unknown)
        # The watermark that each row meets.
        marks = numpy.maximum.accumulate(
            numpy.concatenate(([runtime.watermark], found.times - self._out_of_order))
        )
        if self._window.kind == "session":
            slow = self._sessions(found, marks[:-1])
        else:
            slow = self._spans(found, marks[:-1])
        for row in self._rows(found, slow):
            mark = int(marks[row[0]])
            runtime.reach(mark)
            for result in operator.advance(mark):
                runtime.flow(result, self._plan.stage + 1)
            runtime.flow(row[1], 0)
        last = int(marks[-1])
        runtime.seen(int(found.times.max()), int(found.times.min()))
        runtime.reach(last)
        for result in operator.advance(last):
            runtime.flow(result, self._plan.stage + 1)

    def _rows(self, found: Columns, slow: Any) -> Any:
        """The elements of some rows, a block at a time."""
        runtime = self._runtime
        for n in range(0, len(slow), 2_000):
            block = slow[n : n + 2_000].tolist()
            positions = {int(found.positions[row]): row for row in block}
            for stored in runtime.store.stored(list(positions)):
                yield positions[stored.position], runtime.element(stored)

    # windows of fixed spans

    def _spans(self, found: Columns, marks: Any) -> Any:
        """Add what is in time to its windows; gives the rows that are not."""
        import numpy

        starts, ends = self._first_spans(found.times)
        slow = found.passing & (ends <= marks)
        fast = numpy.flatnonzero(found.passing & ~slow)
        if len(fast):
            # A number for each pair of key and span, and the rows of each together.
            panes = starts[fast]
            codes = found.codes[fast]
            order = numpy.lexsort((panes, codes))
            fast, panes, codes = fast[order], panes[order], codes[order]
            begins, stops = slices(_paired(codes, panes))
            add = self._adder(found, fast)
            spans = zip(
                codes[begins].tolist(),
                panes[begins].tolist(),
                ends[fast[begins]].tolist(),
                begins,
                stops,
                strict=True,
            )
            for code, start, end, low, high in spans:
                self._add(found.keys[code], start, end, add, low, high)
        return numpy.flatnonzero(slow)

    def _first_spans(self, times: Any) -> tuple[Any, Any]:
        """Start and end of each time's span: of its window, or of the slide that it lies in."""
        import numpy

        window = self._window
        if window.kind == "tumbling" and window.unit is not None:
            tz = self._runtime.store.tz
            edges = when.buckets(int(times.min()), int(times.max()) + 1, window.unit, tz)
            edges.append(when.next_bucket(edges[-1], window.unit, tz))
            bounds = numpy.array(edges)
            at = numpy.searchsorted(bounds, times, side="right") - 1
            return bounds[at], bounds[at + 1]
        starts = times - times % window.slide
        return starts, starts + window.slide

    def _add(self, key: Any, start: int, end: int, add: Any, low: int, high: int) -> None:
        operator, window = self._operator, self._window
        names = self._plan.names
        if window.kind == "tumbling" or window.size == window.slide:
            kept = operator.windows(key).get(start) or operator.fresh(key, names, start, end)
            add(kept, low, high)
            operator.keep(kept)
            return
        part = Kept(key, names, start, end, [fold.new() for _, fold in operator.folds])
        add(part, low, high)
        for first in range(end - window.size, end, window.slide):
            kept = operator.windows(key).get(first) or operator.fresh(key, names, first, first + window.size)
            operator.merge(kept, part.states, part.count)
            operator.keep(kept)

    # sessions

    def _sessions(self, found: Columns, marks: Any) -> Any:
        """Add whole sessions of the keys whose rows all come before their sessions have fired; gives the rows
        of the other keys."""
        import numpy

        gap, operator = self._window.size, self._operator
        rows = numpy.flatnonzero(found.passing)
        if not len(rows):
            return rows
        codes, times, marks = found.codes[rows], found.times[rows], marks[rows]
        order = numpy.lexsort((times, codes))
        rows, codes, times, marks = rows[order], codes[order], times[order], marks[order]
        late = self._disturbed(found, codes, times, marks)
        slow = numpy.isin(codes, late) if len(late) else numpy.zeros(len(codes), dtype=bool)
        fast = ~slow
        left, codes, times = rows[fast], codes[fast], times[fast]
        if len(left):
            cut = numpy.concatenate(([True], (codes[1:] != codes[:-1]) | (times[1:] - times[:-1] >= gap)))
            begins = numpy.flatnonzero(cut).tolist()
            stops = [*begins[1:], len(left)]
            add = self._adder(found, left)
            for low, high in zip(begins, stops, strict=True):
                key = found.keys[codes[low]]
                first, last = int(times[low]), int(times[high - 1])
                known = operator.windows(key)
                touching = (
                    [k for k in known.values() if k.start - gap < last and first < k.end] if known else []
                )
                kept = operator.extend(touching, key, self._plan.names, first, last + gap)
                add(kept, low, high)
                operator.keep(kept)
        return numpy.sort(rows[slow])

    def _disturbed(self, found: Columns, codes: Any, times: Any, marks: Any) -> Any:
        """The keys with a row that comes when a session that it touches, or itself, may have ended: one whose
        last time is at most the watermark less the gap, but later than the row's time less the gap. Rows are
        sorted by key and time."""
        import numpy

        gap = self._window.size
        behind = marks > times
        if not behind.any():
            return numpy.empty(0, dtype=codes.dtype)
        ended = marks[behind] - gap
        mine, when_ = codes[behind], times[behind]
        bad = when_ <= ended
        base = int(times.min()) - 2 * gap
        width = int(max(times.max(), ended.max())) - base + 2 * gap
        composite = codes * width + (times - base)
        limit = numpy.maximum(ended - base, 0)
        at = numpy.searchsorted(composite, mine * width + limit, side="right") - 1
        near = numpy.where(at >= 0, composite[numpy.maximum(at, 0)], -1)
        bad |= near > mine * width + (when_ - gap - base)
        late = set(mine[bad].tolist())
        # Sessions from before this range count too.
        for code, row, mark in zip(mine.tolist(), when_.tolist(), marks[behind].tolist(), strict=True):
            if code not in late:
                for kept in self._operator.windows(found.keys[code]).values():
                    if kept.end <= mark and kept.start - gap < row < kept.end:
                        late.add(code)
        return numpy.array(sorted(late), dtype=codes.dtype)

    # values

    def _adder(self, found: Columns, rows: Any) -> Any:
        """Adds a slice of the rows, in the order given, to a window."""
        folds = [fold for _, fold in self._operator.folds]
        picked = rows.tolist()
        times = found.times[rows].tolist()
        orders = found.positions[rows].tolist()
        columns: list[tuple[Any, list[Any] | None, str, bool]] = []
        for fold, column in zip(folds, found.values, strict=True):
            if column is None:
                columns.append((fold, times if fold.instants else None, "int", False))
            else:
                values = [column[0][row] for row in picked]
                columns.append((fold, values, column[1], None in values))

        def add(kept: Kept, low: int, high: int) -> None:
            kept.count += high - low
            for (fold, values, reading, holes), state in zip(columns, kept.states, strict=True):
                if values is None:
                    state[0] += high - low
                elif holes:
                    known = [n for n in range(low, high) if values[n] is not None]
                    fold.column(
                        state,
                        [values[n] for n in known],
                        [times[n] for n in known],
                        [orders[n] for n in known],
                        reading,
                    )
                else:
                    fold.column(state, values[low:high], times[low:high], orders[low:high], reading)

        return add


@contextmanager
def _without_collector() -> Iterator[None]:
    """Many windows at once are many objects, and none of them a cycle: looking for cycles among them again and
    again takes longer than making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _paired(codes: Any, panes: Any) -> Any:
    """A number that changes where either does, of rows sorted by both."""
    import numpy

    changed = (codes[1:] != codes[:-1]) | (panes[1:] != panes[:-1])
    return numpy.concatenate(([0], numpy.cumsum(changed)))
