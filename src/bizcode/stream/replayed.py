"""A range of a join that Spark keeps, taken again in the order of its records: what each of them led to."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .element import Element
from .joined import key_names
from .steps import Join

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["Moments", "Replay"]

BLOCK = 2_000
END = 2**62


@dataclass(frozen=True, slots=True)
class Moments:
    """The records of a range, of both sides: their positions, and the watermark before, after each, and at the end."""

    after: int
    positions: Any
    marks: Any

    def before(self, position: int) -> int:
        """Which of the watermarks a record at a position meets."""
        return int(self.positions.searchsorted(position))

    def places(self, moments: Any) -> Any:
        """After which record the watermark has passed each of some instants; END: only at the end."""
        import numpy

        places = numpy.concatenate(([self.after], self.positions, [END]))
        at = self.marks.searchsorted(moments, side="right")
        return places[numpy.minimum(at, len(places) - 1)]

    @property
    def last(self) -> int:
        return int(self.marks[-1])


class Pair(NamedTuple):
    """A left row with a right one, or alone."""

    lp: int
    lt: int
    rp: int | None
    rt: int | None
    key: str

    @property
    def came(self) -> int:
        """Where the later of both came."""
        return self.lp if self.rp is None else max(self.lp, self.rp)


class Replay:
    """One range.

    Args:
        found: what Spark gave of it, as a table.
        known: reads what Spark gave before, of which some may still be taken back.
        late: (position, side) of the records that came too late.
        back: (record, its time, retraction) by position, in order.
        gone: of records that were taken back while they were kept, where, the watermark then, and their time; it is
            added to.
        alone: left rows that have no partner since those were taken back: time and key; it is changed.
    """

    def __init__(
        self,
        runtime: Runtime,
        join: Join,
        moments: Moments,
        found: Any,
        known: Callable[[], Any],
        late: Iterable[tuple[int, int]],
        back: Iterable[tuple[int, int, int]],
        gone: dict[int, list[int]],
        alone: dict[int, list[Any]],
    ) -> None:
        self._runtime = runtime
        self._join = join
        self._moments = moments
        self._found = found
        self._known = known
        self._gone = gone
        self._alone = alone
        self._reach = join.within + runtime.options.lateness
        self._back = {at: (position, time) for position, time, at in back}
        self._of: dict[int, set[Pair]] | None = None
        self._names = key_names(join)
        self._events: list[tuple[Any, ...]] = [(position, 0, side, -1) for position, side in late]
        self._events += [(at, 0, -1, -1) for at in self._back]
        self._rows: dict[int, Any] = {}
        self._at = 0
        """Which of the watermarks the steps behind the join were moved on to."""
        self._position = moments.after
        self._flowed = False
        self._paired: int | None = None

    def run(self) -> None:
        """Let all of it flow."""
        for position in list(self._alone):
            self._due(position)
        heapq.heapify(self._events)
        for pairs in self._ordered():
            self._fetch(pairs)
            for order, pair in pairs:
                while self._events and self._events[0] < order:
                    self._event(heapq.heappop(self._events))
                self._reached(order[0])
                if pair.rp is not None:
                    self._pair(pair)
                elif pair.lp not in self._gone:
                    self._lonely(pair)
        self._rows = {}
        while self._events:
            self._event(heapq.heappop(self._events))
        self._move(len(self._moments.marks) - 1)

    # order

    def _ordered(self) -> Iterator[list[tuple[tuple[Any, ...], Pair]]]:
        """Pairs as their later rows came, and left rows alone as the watermark passed them, by key and time."""
        import numpy

        table = self._found
        lp, lt = table["lp"].to_numpy(), table["lt"].to_numpy()
        alone = table["rp"].is_null().to_numpy()
        rp = table["rp"].fill_null(-1).to_numpy()
        came = numpy.maximum(lp, rp)
        came[alone] = self._moments.places(lt[alone] + self._join.within)
        by_key = numpy.zeros(len(lp), dtype=numpy.int64)
        by_key[~alone] = lp[~alone] <= rp[~alone]
        if alone.any():
            keys = table["key"].filter(table["rp"].is_null()).to_numpy(zero_copy_only=False).astype(str)
            by_key[alone] = numpy.unique(keys, return_inverse=True)[1]
        order = numpy.lexsort((lp, numpy.where(alone, lt, numpy.minimum(lp, rp)), by_key, alone, came))
        for n in range(0, len(order), BLOCK):
            block = order[n : n + BLOCK]
            pairs = [Pair(**row) for row in table.take(block).to_pylist()]
            yield [
                ((at, 0, int(one.lp <= one.rp), min(one.lp, one.rp)), one)
                if one.rp is not None
                else ((at, 1, one.key, one.lt, one.lp), one)
                for at, one in zip(came[block].tolist(), pairs, strict=True)
            ]

    def _event(self, event: tuple[Any, ...]) -> None:
        position, phase, side = event[:3]
        self._reached(position)
        if phase:
            left = event[4]
            if left in self._alone:
                time, key = self._alone[left]
                self._lonely(Pair(left, time, None, None, key))
        elif side < 0:
            self._take_back(*self._back[position], position)
            self._runtime.advance(int(self._moments.marks[self._at]))
            self._flowed = False
        else:
            part = self._runtime.sides[side]
            for stored in self._runtime.store.stored([position]):
                for element in part.before(part.element(stored), len(part.pipeline.steps)):
                    self._runtime.late(element)

    def _reached(self, position: int) -> None:
        """What stands before a record has had its effect."""
        if position != self._position:
            self._move(self._moments.before(position))
            self._position = position

    def _move(self, to: int) -> None:
        """Move the steps behind the join on, watermark by watermark where one of them does something."""
        runtime, marks = self._runtime, self._moments.marks
        while runtime.operators and (self._at < to or self._flowed):
            ends = [
                end for operator in runtime.operators.values() if (end := operator.next_end()) is not None
            ]
            at = to
            if self._flowed:
                at = min(self._at + 1, to)  # after the record that it came with
            elif ends and min(ends) <= marks[to]:
                at = max(self._at + 1, int(marks.searchsorted(min(ends))))
            runtime.advance(int(marks[at]))
            self._at, self._flowed = at, False
        self._at = to

    # what comes

    def _fetch(self, pairs: list[tuple[Any, Pair]]) -> None:
        wanted = {position for _, pair in pairs for position in (pair.lp, pair.rp) if position is not None}
        self._rows = {row.position: row for row in self._runtime.store.stored(sorted(wanted))}

    def _value(self, position: int, side: int) -> Any:
        """A record as the side gives it; None if it was erased."""
        row = self._rows.get(position)
        if row is None:
            row = next(iter(self._runtime.store.stored([position])), None)
        return None if row is None else self._runtime.sides[side].element(row).value

    def _pair(self, pair: Pair) -> None:
        assert pair.rp is not None
        assert pair.rt is not None
        earlier = min(pair.lp, pair.rp)
        if earlier in self._gone and pair.lp != pair.rp:
            if earlier == pair.rp and self._paired != pair.lp:
                self._left_alone(pair)
            return
        self._alone.pop(pair.lp, None)
        self._paired = pair.lp
        left, right = self._value(pair.lp, 0), self._value(pair.rp, 1)
        if left is not None and right is not None:
            self._give((left, right), pair.key, max(pair.lt, pair.rt), pair.came, _pair_id(pair))

    def _lonely(self, pair: Pair) -> None:
        self._alone.pop(pair.lp, None)
        value = self._value(pair.lp, 0)
        if value is not None:
            self._give((value, None), pair.key, pair.lt, pair.lp, f"{pair.key}|{pair.lp}|1")

    def _give(self, given: tuple[Any, Any], key: str, time: int, order: int, id: str) -> None:
        about = Element(given, time, order, None, self._key(key), self._names, (id,))
        value = self._runtime.paired(self._join.function, given, about)
        if value is not None:
            self._flowed = True
            self._runtime.flow(about.with_value(value), 0)

    def _key(self, text: str) -> Any:
        key = orjson.loads(text)
        return tuple(key) if len(self._names) > 1 else key

    # what goes

    def _take_back(self, position: int, time: int, at: int) -> None:
        """A record is taken back: pairs go whose other row is kept, too, and a left row may be alone."""
        mark = int(self._moments.marks[self._at])
        if position in self._gone or time + self._reach < mark:
            return
        going = sorted(
            (pair for pair in self._pairs(position) if self._stands(pair, at) and self._kept(pair, mark)),
            key=lambda pair: (pair.lp, pair.rp or 0),
        )
        self._gone[position] = [at, mark, time]
        self._alone.pop(position, None)
        for pair in going:
            key = self._key(pair.key)
            withdrawn = Element(None, 0, 0, None, key, self._names, ("", _pair_id(pair)), withdrawn=True)
            self._runtime.flow(withdrawn, 0)
        for pair in going:
            if pair.lp != position and not any(self._stands(one, at) for one in self._pairs(pair.lp)):
                self._left_alone(pair)

    def _kept(self, pair: Pair, mark: int) -> bool:
        """Whether both rows of a pair are kept at a watermark."""
        assert pair.rt is not None
        return min(pair.lt, pair.rt) + self._reach >= mark

    def _stands(self, pair: Pair, at: int) -> bool:
        """Whether a pair was given by a position and not taken back by then."""
        if pair.came > at:
            return False
        for position in (pair.lp, pair.rp):
            if position in self._gone:
                gone_at, mark, _ = self._gone[position]
                if gone_at < pair.came or (gone_at <= at and self._kept(pair, mark)):
                    return False
        return True

    def _pairs(self, position: int) -> set[Pair]:
        """Those of a record that is taken back here, or of a left row that has one of those."""
        if self._of is None:
            self._of = self._indexed()
        return self._of.get(position, set())

    def _indexed(self) -> dict[int, set[Pair]]:
        import numpy
        import pyarrow as pa

        table = pa.concat_tables([self._known(), self._found])
        table = table.filter(table["rp"].is_valid())
        lp, rp = table["lp"].to_numpy(), table["rp"].to_numpy()
        back = numpy.array([position for position, _ in self._back.values()])
        lefts = lp[numpy.isin(lp, back) | numpy.isin(rp, back)]
        found: dict[int, set[Pair]] = {}
        wanted = numpy.isin(lp, lefts) | numpy.isin(rp, back)
        for row in table.filter(pa.array(wanted)).to_pylist():
            pair = Pair(**row)
            for position in (pair.lp, pair.rp):
                found.setdefault(position, set()).add(pair)  # type: ignore[arg-type]
        return found

    def _left_alone(self, pair: Pair) -> None:
        """A left row has no partner any more; Spark, which knew one, will not give it alone."""
        if self._join.kind == "left" and pair.lp not in self._gone and pair.lp not in self._alone:
            self._alone[pair.lp] = [pair.lt, pair.key]
            self._due(pair.lp)

    def _due(self, left: int) -> None:
        time, key = self._alone[left]
        if time + self._join.within < self._moments.last:
            place = int(self._moments.places(time + self._join.within))
            heapq.heappush(self._events, (place, 1, key, time, left))


def _pair_id(pair: Pair) -> str:
    return f"{pair.key}|{pair.lp}-{pair.rp}"
