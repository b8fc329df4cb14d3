"""A rollup's cells with what has come since: the same folding serves the consumer, which stores the result, and
a query, which needs it for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from .. import when
from ..log import Reader
from ..plan.condition import And, Compare
from ..plan.fields import Field
from ..plan.rollup import STATES, Rollup, State, key, place, space, stale_space
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import MEASURE, SYSTEM, Stored
from ..stats.cell import Cell
from . import rows as whole
from .relation import VALUE, Column

__all__ = ["Cells", "Fold", "extremes"]

_CHUNK = 2_000
_Place = tuple[int, str]


class Cells:
    """The stored cells of a rollup, and changes over them that are not stored."""

    def __init__(self, reader: Reader, rollup: Rollup) -> None:
        self.rollup = rollup
        self.state = State.parse(reader.get(STATES, rollup.name))
        self._reader = reader
        self._stored: dict[str, dict[_Place, bool]] = {level: {} for level in rollup.levels}
        self._found: dict[str, dict[_Place, Cell | None]] = {level: {} for level in rollup.levels}

    def complete(self, source: str, instant: int) -> bool:
        """Whether a source has everything from the instant on."""
        since = self.state.complete.get(source)
        return since is None or instant >= since

    def get(self, level: str, bucket: int, tags: str) -> Cell | None:
        """A cell, which is the caller's to change; `put` must follow."""
        found = self._found[level]
        if (bucket, tags) not in found:
            kept = self._reader.get(space(level, self.rollup.name), key(bucket, tags))
            self._stored[level][bucket, tags] = kept is not None
            found[bucket, tags] = None if kept is None else Cell.parse(kept)
        return found[bucket, tags]

    def put(self, level: str, bucket: int, tags: str, cell: Cell | None) -> None:
        """Set a cell; None or an empty one removes it."""
        self._found[level][bucket, tags] = cell if cell is not None and cell.count > 0 else None

    def scan(self, level: str, low: int | None, high: int | None) -> Iterator[tuple[int, str, Cell]]:
        """The cells whose bucket starts in [low, high)."""
        changed = self._found[level]
        for bucket, tags, kept in self.keys(level, low, high):
            if (bucket, tags) not in changed:
                yield bucket, tags, Cell.parse(kept)
        for (bucket, tags), cell in list(changed.items()):
            inside = (low is None or bucket >= low) and (high is None or bucket < high)
            if inside and cell is not None:
                yield bucket, tags, cell

    def keys(self, level: str, low: int | None, high: int | None) -> Iterator[tuple[int, str, bytes]]:
        """What is stored of [low, high), in order of time."""
        after = "" if low is None else key(low)
        name = space(level, self.rollup.name)
        while True:
            found = self._reader.scan(name, after=after, limit=_CHUNK)
            for at, kept in found:
                bucket, tags = place(at)
                if high is not None and bucket >= high:
                    return
                yield bucket, tags, kept
            if len(found) < _CHUNK:
                return
            after = found[-1][0]

    def changes(self) -> Iterator[tuple[str, str, bytes | None]]:
        """(space, key, value) of every change, None to delete."""
        for level, found in self._found.items():
            for (bucket, tags), cell in found.items():
                value = None if cell is None else cell.dump(self.rollup.kept)
                yield space(level, self.rollup.name), key(bucket, tags), value

    def counts(self) -> dict[str, int]:
        """How many cells there are of each level once the changes are stored."""
        counted = dict(self.state.cells)
        for level, found in self._found.items():
            stored = self._stored[level]
            delta = sum((cell is not None) - stored.get(at, False) for at, cell in found.items())
            counted[level] = counted.get(level, 0) + delta
        return counted


class Fold:
    """Folds records, in order of position, into cells.

    Args:
        fetch: the record at a position, None if it is gone.
        raw: (lowest, highest, latest) of the samples of [start, end) with these tags, as a cell.
    """

    def __init__(
        self,
        cells: Cells,
        fetch: Callable[[int], Stored | None],
        raw: Callable[[int, int, str], Cell],
    ) -> None:
        self.cells = cells
        self.rollup = cells.rollup
        self.first = cells.state.first
        self.stale_keys: list[str] = []
        self._tz = cells.rollup.tz
        self._fetch = fetch
        self._raw = raw
        self._sketched = "percentiles" in self.rollup.kept
        self._tags: dict[str, str] = {}
        self._bounds: dict[str, tuple[int, int]] = {}
        self._stale: set[tuple[str, int, str]] = set()

    def take(self, rows: Iterable[Stored]) -> None:
        """Measurements are added, what was retracted is taken out again."""
        samples: list[Stored] = []
        retracted: list[Stored] = []
        forgotten = False
        for row in rows:
            if row.kind == MEASURE:
                samples.append(row)
            elif row.kind == SYSTEM and row.name == "retract":
                data = orjson.loads(row.data)
                if data["kind"] == MEASURE and data["name"] == self.rollup.name:
                    stored = self._fetch(data["position"])
                    retracted += [] if stored is None else [stored]
            elif row.kind == SYSTEM and row.name == "forget":
                forgotten = True
        self.add(samples)
        self.remove(retracted)
        if forgotten:
            self.recall()

    def add(self, samples: list[Stored]) -> None:
        """Put samples into their buckets of every level."""
        if samples:
            first = min(row.time for row in samples)
            self.first = first if self.first is None else min(self.first, first)
        for level, deltas in self._deltas(samples).items():
            for (bucket, tags), delta in deltas.items():
                if self.cells.complete(level, bucket):
                    cell = self.cells.get(level, bucket, tags)
                    if cell is None:
                        cell = Cell()
                    cell.add(delta)
                    self.cells.put(level, bucket, tags, cell)

    def remove(self, samples: list[Stored]) -> None:
        """Take samples out of every level. Extremes that may have been theirs are due to be found anew."""
        for level, deltas in self._deltas(samples).items():
            for (bucket, tags), delta in deltas.items():
                cell = self.cells.get(level, bucket, tags)
                if cell is None:
                    continue
                if cell.take(delta):
                    self._stale.add((level, bucket, tags))
                self.cells.put(level, bucket, tags, cell)

    def _deltas(self, samples: list[Stored]) -> dict[str, dict[_Place, Cell]]:
        found: dict[str, dict[_Place, Cell]] = {}
        if not samples:
            return found
        for level in self.rollup.levels:
            finer = self.rollup.source(level)
            deltas: dict[_Place, Cell] = {}
            if finer is None:
                deltas = self._grouped(level, samples)
            else:
                for (bucket, text), delta in found[finer].items():
                    deltas.setdefault((self._bucket(level, bucket), text), Cell()).add(delta)
            found[level] = deltas
        return found

    def _grouped(self, level: str, samples: list[Stored]) -> dict[_Place, Cell]:
        # Ten million samples pass through this loop when a rollup is first filled: no calls in it.
        groups: dict[_Place, list[tuple[int, int, Any]]] = {}
        known = self._tags
        low, high = self._bounds.get(level, (0, 0))
        for position, _, _, time, data, _, _, _, _, value, _ in samples:
            if not low <= time < high:
                low = self._bucket(level, time)
                high = self._bounds[level][1]
            at = (low, known.get(data) or self._tags_of(data))
            group = groups.get(at)
            if group is None:
                groups[at] = [(time, position, value)]
            else:
                group.append((time, position, value))
        return {at: Cell.of(group, self._sketched) for at, group in groups.items()}

    def _tags_of(self, data: str) -> str:
        known = self._tags.get(data)
        if known is None:
            if len(self._tags) > 50_000:
                self._tags.clear()
            known = self._tags[data] = self.rollup.tags_of(orjson.loads(data))
        return known

    def _bucket(self, level: str, instant: int) -> int:
        known = self._bounds.get(level)
        if known is None or not known[0] <= instant < known[1]:
            start = when.bucket(instant, level, self._tz)
            known = self._bounds[level] = (start, when.next_bucket(start, level, self._tz))
        return known[0]

    # extremes, which can't be taken away but only found anew

    def stale(self) -> Iterator[str]:
        """The keys under which others find what is due to be found anew."""
        for level, bucket, tags in self._stale:
            yield f"{level}\0{key(bucket, tags)}"

    def recall(self) -> None:
        """Take over what others left to be found anew."""
        for kept, _ in self.cells._reader.scan(stale_space(self.rollup.name)):
            level, _, at = kept.partition("\0")
            self.stale_keys.append(kept)
            if level in self.rollup.levels:
                self._stale.add((level, *place(at)))

    def finish(self) -> None:
        """Find the extremes anew where they are due, finest level first: from the finer one, else from the
        samples. Where neither is there any more they stay as they are."""
        levels = self.rollup.levels
        for level, bucket, tags in sorted(self._stale, key=lambda at: levels.index(at[0])):
            cell = self.cells.get(level, bucket, tags)
            if cell is None:
                continue
            end = when.next_bucket(bucket, level, self._tz)
            finer = self.rollup.source(level)
            if finer is not None and self.cells.complete(finer, bucket):
                cell.forget()
                for _, text, part in self.cells.scan(finer, bucket, end):
                    if text == tags:
                        cell.include(part)
            elif self.cells.complete("raw", bucket):
                cell.forget()
                cell.include(self._raw(bucket, end, tags))
            self.cells.put(level, bucket, tags, cell)
        self._stale.clear()


def extremes(session: Any, rollup: Rollup, upto: int, start: int, end: int, tags: str) -> Cell:
    """The extremes and the latest of the samples of [start, end) with these tags, up to a position."""
    wanted = orjson.loads(tags)
    same = tuple(
        Compare(Field((name,), raw=True), "eq", value)
        for name, value in wanted.items()
        if isinstance(value, (str, int, float))
    )
    select = Select(
        kind=MEASURE,
        names=(rollup.name,),
        where=And(same),
        since=when.to_datetime(start),
        until=when.to_datetime(end),
    )
    # Samples with more tags than these meet the conditions too. Only if one of them leads, each is looked at.
    leading = _leading(session, select, upto)
    if all(rollup.tags_of(record.data) == tags for record in leading):
        return _of(leading)
    found = Cell()
    for batch in whole.records(session, select, newest_first=False):
        fitting = [r for r in batch if r._position <= upto and rollup.tags_of(r.data) == tags]
        found.include(_of(fitting))
    return found


def _leading(session: Any, select: Select, upto: int) -> list[Any]:
    """The lowest, the highest and the latest sample of a selection."""
    parameters = Parameters()
    columns = {"x": Column("number", VALUE), "position": Column("position"), "moment": Column("timestamp")}
    relation = session.relation(select, columns, parameters)
    place = "{position: position, time: epoch_us(moment)}"
    sql = (
        f"SELECT arg_min({place}, x), arg_max({place}, x), arg_max({place}, (moment, position)) "
        f"FROM ({relation.sql}) WHERE position <= {upto}"
    )
    places = [found for found in session.fetch(sql, parameters)[0] if found is not None]
    keys = sorted({(found["position"], found["time"]) for found in places})
    return whole.at(session, keys) if keys else []


def _of(records: list[Any]) -> Cell:
    return Cell.of((r._time, r._position, r._value) for r in records) if records else Cell()
