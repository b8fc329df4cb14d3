"""Questions about a metric answered from its rollups: cost by the buckets, not by the samples.

A query sees every write that returned before: what the rollup's consumer has not taken yet is folded into the
cells for the moment of the query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from .. import when
from ..log import Reader
from ..plan.fields import MISSING, read
from ..plan.rollup import DEFINED, STATES, Rollup, State, consumer, key, space
from ..plan.select import Aggregate, Select
from ..record import MEASURE, SYSTEM, Stored
from ..stats.cell import Cell, Latest
from ..stats.exact import Exact
from ..stats.sketch import Sketch
from .cells import Cells, Fold, extremes
from .cover import RAW, Expired, Piece, cover, expired, levels
from .engine import Session
from .groups import apart

__all__ = ["Levels", "following", "is_whole", "levels_of", "require_raw"]

LAG = 20_000
"""Samples that the consumer has not taken yet: beyond so many the raw samples answer, while they are there."""

FEW = 500
_END = 2**62
_SYSTEM = ("retract", "forget")


def _rollup(session: Session, select: Select) -> Rollup | None:
    if select.kind != MEASURE or select.names is None or len(select.names) != 1:
        return None
    name = select.names[0]
    kept = session.engine.log.cached(DEFINED).get(name)
    return None if kept is None else Rollup.parse(name, kept)


def levels_of(session: Session, query: Aggregate) -> Levels | None:
    """How a question is answered from rollups; None: from the raw samples, which are all there.

    Raises:
        InvalidQuery: neither can answer it exactly any more.
    """
    rollup = _rollup(session, query.select)
    return None if rollup is None else Levels(session, query, rollup).planned()


def require_raw(session: Session, select: Select, what: str) -> None:
    """Raises InvalidQuery where samples of the range were deleted."""
    rollup = _rollup(session, select)
    if rollup is not None and not is_whole(session, select):
        state = State.parse(session.engine.log.get(STATES, rollup.name))
        raise expired(rollup, state, what, session.range(select).bounds[1], session.tz)


def is_whole(session: Session, select: Select) -> bool:
    """Whether no sample of the range was deleted by a rollup's retention."""
    rollup = _rollup(session, select)
    if rollup is None:
        return True
    low, high = session.range(select).bounds
    since = State.parse(session.engine.log.get(STATES, rollup.name)).complete.get(RAW)
    return since is None or (low is not None and (low >= since or (high is not None and high <= low)))


class Levels:
    """One question about a metric that has a rollup."""

    def __init__(self, session: Session, query: Aggregate, rollup: Rollup) -> None:
        self.session = session
        self.query = query
        self.rollup = rollup
        self.state = State.parse(session.engine.log.get(STATES, rollup.name))
        self.pieces: list[Piece] = []
        self._edge_only = False

    def planned(self) -> Levels | None:
        """This with its pieces; None where the raw samples answer alone."""
        low, high = self.session.range(self.query.select).bounds
        since = self.state.complete.get(RAW)
        gone = since is not None and (low is None or low < since)
        if low is not None and high is not None and low >= high:
            return None
        if high is not None and high > self._newest() and (since is None or high >= since):
            high = None  # nothing lies beyond it: the running buckets are whole ones
        found = levels(self.rollup, self.query, self.session.tz.key)
        if not gone and (
            not found or self.query.operation in ("median", "percentile") or self._behind() > LAG
        ):
            return None
        self.pieces = cover(low, high, found, self.state, self.rollup.tz)
        broken = [p for p in self.pieces if p.source == RAW and self._deleted(p)]
        if broken:
            newest = self.query.operation in ("last", "current") and not self.query.by
            if not newest or since is None or (high is not None and high <= since):
                raise self._expired(high)
            # The newest of all is among the samples that are left, if there is any among them.
            self.pieces = [Piece(RAW, since, high)]
            self._edge_only = True
        return self if self._edge_only or any(p.source != RAW for p in self.pieces) else None

    def _newest(self) -> int:
        """No sample that is kept is newer."""
        name, view = self.rollup.name, self.session.view
        times = [segment.max_time for segment in view.catalog.of(MEASURE, name)]
        times += [row.time for row in self.session.pending]
        if (MEASURE, name) in view.names:
            times.append(view.names[MEASURE, name][2])
        return max(times, default=-_END)

    def _deleted(self, piece: Piece) -> bool:
        since = self.state.complete.get(RAW)
        return since is not None and (piece.start is None or piece.start < since)

    def _expired(self, high: int | None) -> Expired:
        return expired(self.rollup, self.state, f"{self.query.operation}()", high, self.session.tz)

    def _position(self) -> int:
        kept = self.session.engine.log.get("consumer", consumer(self.rollup.name))
        return 0 if kept is None else orjson.loads(kept)["position"]

    def _behind(self) -> int:
        """At most how many of the metric's samples the consumer has not taken yet."""
        view = self.session.view
        after = self._position()
        if after >= view.head:
            return 0
        name = self.rollup.name
        waiting = view.names.get((MEASURE, name), (0, 0, 0))[0]
        waiting += sum(s.rows for s in view.catalog.of(MEASURE, name) if s.last_position > after)
        return min(waiting, view.head - after)

    # the answer

    def groups(
        self, raw: Callable[[Aggregate], Iterable[tuple[tuple[Any, ...], Any]]]
    ) -> list[tuple[Any, Cell]]:
        """Each key with its cell, of the whole range.

        Args:
            raw: answers a plain aggregate over the samples as (key, value) pairs.
        """
        found: dict[tuple[Any, ...], tuple[Any, Cell]] = {}
        with self.session.engine.log.snapshot() as reader:
            cells = Cells(reader, self.rollup)
            if cells.state.complete != self.state.complete:
                # Retention has moved on since the range was cut into pieces.
                self.state = cells.state
                if self.planned() is None:
                    self.pieces = [Piece(RAW, *self.session.range(self.query.select).bounds)]
            if any(piece.source != RAW for piece in self.pieces):
                following(self.session, cells, self._position_in(reader), reader)
            for piece in self.pieces:
                if piece.source != RAW:
                    self._stored(cells, piece, found)
        for piece in self.pieces:
            if piece.source == RAW:
                self._raw(piece, raw, found)
        if self._edge_only and (not found or next(iter(found.values()))[1].last is None):
            raise self._expired(self.session.range(self.query.select).bounds[1])
        return list(found.values())

    def _position_in(self, reader: Any) -> int:
        kept = reader.get("consumer", consumer(self.rollup.name))
        return 0 if kept is None else orjson.loads(kept)["position"]

    def _stored(self, cells: Cells, piece: Piece, found: dict[Any, tuple[Any, Cell]]) -> None:
        query, tz = self.query, self.session.tz
        bucket_at = next((n for n, d in enumerate(query.by) if d.kind == "bucket"), None)
        keys: dict[str, tuple[Any, ...] | None] = {}
        moments: dict[int, Any] = {}
        for bucket, tags, cell in cells.scan(piece.source, piece.start, piece.end):
            if tags not in keys:
                keys[tags] = self._key(tags)
            held = keys[tags]
            if held is None:
                continue
            if bucket_at is not None:
                if bucket not in moments:
                    unit = query.by[bucket_at].name
                    moments[bucket] = when.bucket_datetime(when.bucket(bucket, unit, tz), unit, tz)
                held = (*held[:bucket_at], moments[bucket], *held[bucket_at:])
            _cell(found, held).add(cell)

    def _key(self, tags: str) -> tuple[Any, ...] | None:
        """The group of a set of tags, without its bucket; None if the conditions leave it out."""
        data = orjson.loads(tags)
        if not self.query.select.where.matches(data):
            return None
        found = []
        for dimension in self.query.by:
            if dimension.field is None:
                continue
            value = read(data, dimension.field)
            if isinstance(value, (list, dict)):
                value = orjson.dumps(value).decode()
            elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
                value = int(value)
            found.append(None if value is MISSING else value)
        return tuple(found)

    def _raw(self, piece: Piece, raw: Callable[..., Any], found: dict[Any, tuple[Any, Cell]]) -> None:
        query = self.query
        plain = self.plain(piece)
        for part in _PARTS[query.operation](query):
            for at, value in raw(replace(plain, operation=part)):
                cell = _cell(found, at)
                if part == "count":
                    cell.count += value
                elif part == "sum":
                    cell.sum.add(Exact.of([value]))
                elif part == "values":
                    cell.sketch = cell.sketch or Sketch()
                    cell.sketch.take(value or ())
                elif value is not None:
                    other = Cell()
                    if part == "last":
                        other.last = Latest(_END if piece.end is None else piece.end - 1, _END, value)
                    else:
                        other.low = other.high = value
                    cell.include(other)

    def plain(self, piece: Piece) -> Aggregate:
        """The question put to the samples of a piece."""
        select = replace(
            self.query.select,
            since=None if piece.start is None else when.to_datetime(piece.start),
            until=None if piece.end is None else when.to_datetime(piece.end),
        )
        return replace(self.query, select=select, limit=None, offset=0, vs=None)

    def value(self, cell: Cell) -> Any:
        """The number asked for. A rate is still to be divided by its time."""
        operation = self.query.operation
        if operation == "avg":
            return cell.sum.value / cell.count if cell.count else None
        if operation in ("last", "current"):
            return None if cell.last is None else cell.last.value
        if operation in ("median", "percentile"):
            p = 50.0 if operation == "median" else self.query.argument
            return None if cell.sketch is None else cell.sketch.percentile(p)
        if operation in ("min", "max"):
            return cell.low if operation == "min" else cell.high
        counted = operation == "count" or (operation == "rate" and not self.query.argument[1])
        return cell.count if counted else cell.sum.value

    def nothing(self) -> Any:
        """The number of no samples."""
        return self.value(Cell())

    # what is shown

    def lines(self) -> Iterator[str]:
        """Each piece in words, with the statement that reads it from the log's state."""
        tz = self.session.tz
        for piece in self.pieces:
            start = "the first" if piece.start is None else when.to_datetime(piece.start, tz).isoformat()
            end = "now" if piece.end is None else when.to_datetime(piece.end, tz).isoformat()
            if piece.source == RAW:
                yield f"-- from the raw samples of {self.rollup.name!r}: {start} to {end}"
                continue
            yield f"-- from the rollup of {self.rollup.name!r} by {piece.source}: {start} to {end}"
            name = space(piece.source, self.rollup.name).replace("'", "''")
            bounds = f" AND key >= '{key(piece.start)}'" if piece.start is not None else ""
            bounds += f" AND key < '{key(piece.end)}'" if piece.end is not None else ""
            yield f"SELECT key, value FROM kv WHERE space = '{name}'{bounds};"


def _cell(found: dict[Any, tuple[Any, Cell]], key: tuple[Any, ...]) -> Cell:
    return found.setdefault(apart(key), (key, Cell()))[1]


def _both(_: Aggregate) -> tuple[str, ...]:
    return ("sum", "count")


_PARTS: dict[str, Callable[[Aggregate], tuple[str, ...]]] = {
    "count": lambda _: ("count",),
    "sum": lambda _: ("sum",),
    "avg": _both,
    "rate": lambda query: ("sum",) if query.argument[1] else ("count",),
    "min": lambda _: ("min",),
    "max": lambda _: ("max",),
    "last": lambda _: ("last",),
    "current": lambda _: ("last",),
    "median": lambda _: ("values",),
    "percentile": lambda _: ("values",),
}


def following(session: Session, cells: Cells, after: int, reader: Reader) -> None:
    """Fold what came after a position into the cells, for this moment only."""
    rollup = cells.rollup
    engine, view = session.engine, session.view

    def fetch(position: int) -> Stored | None:
        found = engine.log.at([position]) or engine.segments.at([position])
        return found[0] if found else None

    fold = Fold(cells, fetch, partial(extremes, session, rollup, view.head))
    names = (rollup.name, *_SYSTEM)
    if after < view.sealed_to:
        for batch in engine.segments.rows(after, view.sealed_to, (MEASURE, SYSTEM), names):
            fold.take(_wanted(batch, rollup.name))
    if after < view.head:
        start = max(after, view.sealed_to)
        # A few are read faster from the log, unless it has sealed them since this query began.
        few = view.head - start <= FEW and engine.segments.catalog(reader).sealed_to == view.sealed_to
        rows = reader.read(start, view.head) if few else _tail(session, start, rollup.name)
        fold.take(_wanted(rows, rollup.name))
    fold.take(row for row in session.pending if row.kind == MEASURE and row.name == rollup.name)
    fold.finish()


def _wanted(rows: list[Stored], name: str) -> list[Stored]:
    return [row for row in rows if row.kind == SYSTEM or (row.kind == MEASURE and row.name == name)]


def _tail(session: Session, after: int, name: str) -> list[Stored]:
    sql = (
        f"SELECT position, kind, name, epoch_us(timestamp), data, value_int, value FROM {session.view.table} "
        f"WHERE position > {after} AND position <= {session.view.head} "
        f"AND ((kind = '{MEASURE}' AND name = $1) OR (kind = '{SYSTEM}' AND name IN {_SYSTEM})) ORDER BY position"
    )
    return [
        Stored(position, kind, found, time, data, value=real if whole is None else whole)
        for position, kind, found, time, data, whole, real in session.cursor.execute(sql, [name]).fetchall()
    ]
