"""Many records at once into windows, with the results that they would give one by one.

Rows that come in time for their windows are grouped by key and window and added group by group; the others (late,
or correcting what has fired) are taken one by one, at their place in the order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import when
from ..memory import without_collector
from .columns import Columnar, Columns, read, slices
from .element import index_of
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
        self._shape = window
        self._whole: list[tuple[int, int, str, Kept]] = []
        self._last = 0
        self._shared: dict[Any, Kept] = {}

    def batch(self, unit: UnitOfWork, after: int, until: int) -> bool:
        """The records after one position and up to another; False where they must be taken one by one."""
        if not self.take(after, until, live=True, since=self._runtime.beginning[1]):
            return False
        self._runtime.finish(unit, until)
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
            with without_collector():
                self._into(found)
        return True

    def _into(self, found: Columns) -> None:
        import numpy

        runtime = self._runtime
        if found.unknown:
            runtime.count("unknown", found.unknown)
        # The watermark that each row meets.
        marks = numpy.maximum.accumulate(
            numpy.concatenate(([runtime.watermark], found.times - self._out_of_order))
        )
        self._last, self._whole, self._shared = int(marks[-1]), [], {}
        if self._shape.kind == "session":
            slow = self._sessions(found, marks[:-1])
        else:
            slow = self._spans(found, marks[:-1])
        self._whole.sort(key=lambda made: made[:3], reverse=True)
        for row in self._rows(found, slow):
            mark = int(marks[row[0]])
            runtime.reach(mark)
            self._fire(mark)
            runtime.flow(row[1], 0)
        last = int(marks[-1])
        pattern, arrivals = runtime.pipeline.source.pattern, runtime.store.writer.arrivals
        arrived = max((at for name, at in list(arrivals.items()) if pattern.may_want(*name)), default=None)
        runtime.seen(int(found.times.max()), int(found.times.min()), arrived)
        runtime.reach(last)
        self._fire(last)

    def _fire(self, mark: int) -> None:
        """Everything that has ended, in order: windows that are kept, and those that began and ended here."""
        runtime, operator, stage = self._runtime, self._operator, self._plan.stage + 1
        whole = self._whole
        while whole and whole[-1][0] <= mark:
            end, start, place, kept = whole.pop()
            for result in operator.advance(mark, (end, start, place)):
                runtime.flow(result, stage)
            for result in operator.once(kept):
                runtime.flow(result, stage)
        for result in operator.advance(mark):
            runtime.flow(result, stage)

    def _window(self, key: Any, start: int, end: int) -> Kept:
        """The window that is kept, or a new one: one that ends within the range, and can't be corrected
        later, is not kept at all."""
        operator = self._operator
        known = operator.windows(key).get(start)
        if known is not None:
            operator.keep(known)
            return known
        if end > self._last or operator.lateness:
            made = operator.fresh(key, self._plan.names, start, end)
            operator.keep(made)
            return made
        made = operator.unkept(key, self._plan.names, start, end)
        self._whole.append((end, start, made.place, made))
        return made

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
        if slow.any():
            # A row that is late for one window may be in time for the next, which must then be kept for it.
            self._last = -(2**62)
        if len(fast):
            # A number for each pair of key and span, and the rows of each together.
            panes = starts[fast]
            codes = found.codes[fast]
            order = _sorted(codes, panes)
            fast, panes, codes = fast[order], panes[order], codes[order]
            begins, stops = slices((codes[1:] != codes[:-1]) | (panes[1:] != panes[:-1]))
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

        window = self._shape
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
        operator, window = self._operator, self._shape
        names = self._plan.names
        if window.kind == "tumbling" or window.size == window.slide:
            add(self._window(key, start, end), low, high)
            return
        part = operator.unkept(key, names, start, end)
        add(part, low, high)
        for first in range(end - window.size, end, window.slide):
            kept = self._sliding(key, first, first + window.size)
            operator.merge(kept, part.states, part.count)

    def _sliding(self, key: Any, start: int, end: int) -> Kept:
        """As `_window`, of windows that several slides add to."""
        made = self._shared.get((index_of(key), start))
        if made is None:
            made = self._shared[index_of(key), start] = self._window(key, start, end)
        return made

    # sessions

    def _sessions(self, found: Columns, marks: Any) -> Any:
        """Add whole sessions of the keys whose rows all come before their sessions have fired; gives the rows
        of the other keys."""
        import numpy

        gap, operator = self._shape.size, self._operator
        rows = numpy.flatnonzero(found.passing)
        if not len(rows):
            return rows
        codes, times, marks = found.codes[rows], found.times[rows], marks[rows]
        order = _sorted(codes, times)
        rows, codes, times, marks = rows[order], codes[order], times[order], marks[order]
        late = self._disturbed(found, codes, times, marks)
        slow = numpy.isin(codes, late) if len(late) else numpy.zeros(len(codes), dtype=bool)
        fast = ~slow
        left, codes, times = rows[fast], codes[fast], times[fast]
        if len(left):
            begins, stops = slices((codes[1:] != codes[:-1]) | (times[1:] - times[:-1] >= gap))
            add = self._adder(found, left)
            for low, high in zip(begins, stops, strict=True):
                key = found.keys[codes[low]]
                first, last = int(times[low]), int(times[high - 1])
                known = operator.windows(key)
                touching = (
                    [k for k in known.values() if k.start - gap < last and first < k.end] if known else []
                )
                if touching:
                    kept = operator.extend(touching, key, self._plan.names, first, last + gap)
                    operator.keep(kept)
                else:
                    kept = self._window(key, first, last + gap)
                add(kept, low, high)
        return numpy.sort(rows[slow])

    def _disturbed(self, found: Columns, codes: Any, times: Any, marks: Any) -> Any:
        """The keys with a row that comes when a session that it touches, or itself, may have ended: one whose
        last time is at most the watermark less the gap, but later than the row's time less the gap. Rows are
        sorted by key and time."""
        import numpy

        gap = self._shape.size
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
        timed = any(fold.instants or fold.made.operation in ("first", "last", "collect") for fold in folds)
        times = found.times[rows].tolist() if timed else []
        orders = found.positions[rows].tolist() if timed else []
        columns: list[tuple[Any, list[Any] | None, str, bool]] = []
        for fold, column in zip(folds, found.values, strict=True):
            if column is None:
                columns.append((fold, times if fold.instants else None, "int", False))
                continue
            values = column.array[rows].tolist()
            holes = False
            if column.missing is not None:
                missing = column.missing[rows]
                holes = bool(missing.any())
                for row in missing.nonzero()[0].tolist():
                    values[row] = None
            columns.append((fold, values, column.reading, holes))

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
                        [times[n] for n in known] if timed else (),
                        [orders[n] for n in known] if timed else (),
                        reading,
                    )
                else:
                    fold.column(state, values[low:high], times[low:high], orders[low:high], reading)

        return add


def _sorted(codes: Any, times: Any) -> Any:
    """The order by number, then time."""
    import numpy

    low = int(times.min())
    width = int(times.max()) - low + 1
    if (int(codes.max()) + 1) * width < 2**62:
        return numpy.argsort(codes * width + (times - low), kind="stable")
    return numpy.lexsort((times, codes))
