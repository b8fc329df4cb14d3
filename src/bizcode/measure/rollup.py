"""A metric's rollup: defined once, kept up to date by a consumer, corrected by what is retracted or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..awaited import DONE, Awaited, Done
from ..consume import Pattern
from ..consume.consumer import position_of
from ..engine.cells import Cells, Fold, extremes
from ..errors import AlreadyExists, Conflict, InvalidQuery, NotFound
from ..log import Transaction
from ..plan.rollup import DEFINED, STATES, Rollup, State, consumer, nests, space, stale_space
from ..query import Lazy
from ..record import MEASURE, Stored
from ..stats.cell import Cell
from ..unit import UnitOfWork
from .retention import Retention

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["RollupDoor", "RollupInfo", "by_hand", "define", "erasing", "infos", "known", "resume"]

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class RollupInfo:
    """What is known of a rollup. `cells` counts what is kept of each granularity, `complete` says from when on each
    source ("raw" is the samples) has everything (what has lost nothing is not in it), `lag` how many positions of
    the log it has yet to look at."""

    metric: str
    granularity: tuple[str, ...]
    aggregates: tuple[str, ...]
    retention: Mapping[str, str]
    cells: Mapping[str, int]
    complete: Mapping[str, Any]
    position: int
    lag: int


class RollupDoor(Awaited):
    """One metric's rollup: `info()`, `drop()`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def info(self) -> Lazy[RollupInfo]:
        """What it keeps and how far it is. Raises NotFound when run."""
        return Lazy(lambda: _info(self._store, self.name), "rollup", self._store.engine)

    def drop(self) -> Done:
        """Remove it and all that it keeps; samples that were deleted are not brought back. Raises NotFound."""
        store = self._store
        rollup = _kept(store, self.name)
        store.consumers.unregister(consumer(self.name))
        store.consumers.remove_ticker(f"{consumer(self.name)}:retention")
        with store.log.transaction() as tx:
            for level in rollup.levels:
                tx.clear(space(level, self.name))
            tx.clear(stale_space(self.name))
            tx.delete(DEFINED, self.name)
            tx.delete(STATES, self.name)
            tx.delete("consumer", consumer(self.name))
        return DONE

    def __repr__(self) -> str:
        return f"biz.measure[{self.name!r}].rollup()"


def define(
    store: Store, name: str, granularity: Any, aggregates: Any, retention: Any, tags: Any
) -> RollupDoor:
    """Define a metric's rollup, or take it up again; see `MetricDoor.rollup`."""
    made = Rollup.make(name, granularity, aggregates, retention, tags, store.identity, store.timezone)
    with store.log.transaction() as tx:
        kept = tx.get(DEFINED, name)
        if kept is None:
            tx.put(DEFINED, name, made.dump())
            # Even where a follower of one dropped before has left its position: all history is taken.
            tx.put("consumer", consumer(name), orjson.dumps({"position": 0}))
        elif not made.same(Rollup.parse(name, kept)):
            raise AlreadyExists(f"{name!r} has another rollup already: remove it first by .rollup().drop()")
    _follow(store, name)
    return RollupDoor(store, name)


def known(store: Store, name: str) -> RollupDoor:
    """The rollup that there is. Raises NotFound."""
    _kept(store, name)
    return RollupDoor(store, name)


def resume(store: Store) -> None:
    """Take up every rollup that the store has: what they do is in their definitions."""
    for name in store.log.cached(DEFINED):
        _follow(store, name)


def infos(store: Store) -> list[RollupInfo]:
    """What is known of every rollup, by metric."""
    return [_info(store, name) for name in sorted(store.log.cached(DEFINED))]


def _info(store: Store, name: str) -> RollupInfo:
    rollup = _kept(store, name)
    state = State.parse(store.log.get(STATES, name))
    position = position_of(store, consumer(name)) or 0
    complete = {source: when.to_datetime(at, store.tz) for source, at in state.complete.items()}
    return RollupInfo(
        name,
        rollup.levels,
        rollup.aggregates,
        dict(rollup.retention),
        {level: state.cells.get(level, 0) for level in rollup.levels},
        complete,
        position,
        max(0, store.log.head() - position),
    )


def _kept(store: Store, name: str) -> Rollup:
    kept = store.log.get(DEFINED, name)
    if kept is None:
        raise NotFound(f"{name!r} has no rollup: define it by .rollup(granularity=['hour', 'day'])")
    return Rollup.parse(name, kept)


def _follow(store: Store, name: str) -> None:
    pattern = Pattern(frozenset((MEASURE,)), frozenset((name,)), system=frozenset(("retract", "forget")))
    store.consumers.follow(consumer(name), pattern, batches=partial(_batch, store, name), since="start")
    store.consumers.tickers(Retention(store, name))


def _batch(store: Store, name: str, unit: UnitOfWork, rows: list[Stored]) -> None:
    """Fold a batch into the cells. Read without a lock: whoever changes cells moves the state's generation, and
    a batch that read an older one is taken again."""
    kept = store.log.get(DEFINED, name)
    if kept is None:
        return
    before = store.log.get(STATES, name)
    cells = Cells(store.log, Rollup.parse(name, kept))
    fold = Fold(cells, store.stored_at, _raw(store, cells.rollup, rows[-1].position))
    fold.take(rows)
    fold.finish()
    changes = list(cells.changes())
    if not changes and not fold.stale_keys:
        return
    state = cells.state.moved(first=fold.first, cells=cells.counts())

    def write(tx: Transaction) -> None:
        if tx.get(STATES, name) != before or tx.get(DEFINED, name) != kept:
            raise Conflict(f"the rollup of {name!r} was changed meanwhile")
        _write(tx, name, changes, state)
        for stale in fold.stale_keys:
            tx.delete(stale_space(name), stale)

    unit.action(write)


def _write(
    tx: Transaction, name: str, changes: Sequence[tuple[str, str, bytes | None]], state: State
) -> None:
    for where, key, value in changes:
        if value is None:
            tx.delete(where, key)
        else:
            tx.put(where, key, value)
    tx.put(STATES, name, state.dump())


def _raw(store: Store, rollup: Rollup, upto: int) -> Callable[[int, int, str], Cell]:
    def read(start: int, end: int, tags: str) -> Cell:
        with store.engine.session() as session:
            return extremes(session, rollup, upto, start, end, tags)

    return read


def erasing(store: Store, positions: Sequence[int]) -> Callable[[Transaction], None]:
    """For `forget`: take samples that are being erased out of the rollups, in the erasing transaction. Extremes that
    may have been theirs are left to be found anew by the consumer, once the samples are gone."""
    names = set(store.log.cached(DEFINED))
    for name in names:
        store.consumers.catch_up(consumer(name))
    wanted = sorted(positions)
    rows = [*store.log.at(wanted), *store.segments.at(wanted)]
    samples: dict[str, dict[int, Stored]] = {}
    for row in rows:
        if row.kind == MEASURE and row.name in names:
            samples.setdefault(row.name, {})[row.position] = row

    def take_out(tx: Transaction) -> None:
        for name, found in samples.items():
            kept, at = tx.get(DEFINED, name), tx.get("consumer", consumer(name))
            if kept is None or at is None:
                continue
            reached = orjson.loads(at)["position"]
            cells = Cells(tx, Rollup.parse(name, kept))
            fold = Fold(cells, lambda _: None, lambda *_: Cell())
            fold.remove([row for row in found.values() if _counted(tx, row, reached)])
            _write(tx, name, list(cells.changes()), cells.state.moved(cells=cells.counts()))
            for stale in fold.stale():
                tx.put(stale_space(name), stale, b"")

    return take_out


def _counted(tx: Transaction, row: Stored, reached: int) -> bool:
    """Whether the cells hold a sample: taken, and not taken out by a retraction."""
    if row.position > reached:
        return False
    retracted = tx.get("retracted", f"{row.position:020d}")
    return retracted is None or orjson.loads(retracted)["at"] > reached


def by_hand(store: Store, name: str, from_: str | None, to: str | None) -> int:
    """Roll one granularity up from a finer one; how many cells were written. See `MetricDoor.rollup`."""
    for unit in (from_, to):
        if unit not in when.UNITS:
            raise InvalidQuery(f"rollup(from_=, to=) takes two of {', '.join(when.UNITS)}, not {unit!r}")
    assert from_ is not None
    assert to is not None
    if from_ == to or not nests(from_, to):
        raise InvalidQuery(f"a {to} does not consist of whole {from_}s: roll up from a finer granularity")
    rollup = _kept(store, name)
    if from_ not in rollup.levels and to not in rollup.levels:
        raise InvalidQuery(
            f"the rollup of {name!r} keeps {', '.join(rollup.levels)}, there is no {from_!r} to roll up from"
        )
    store.consumers.catch_up(consumer(name))
    if from_ not in rollup.levels:
        return 0  # what is kept is made of the samples, which are finer still
    for _ in range(_ATTEMPTS):
        written = _step(store, name, from_, to)
        if written is not None:
            return written
    raise Conflict(f"the rollup of {name!r} is changed by others all the time: try again")


def _step(store: Store, name: str, from_: str, to: str) -> int | None:
    """One attempt: read without a lock, write if nothing was changed meanwhile; None if something was."""
    kept, before = store.log.get(DEFINED, name), store.log.get(STATES, name)
    if kept is None:
        raise NotFound(f"the rollup of {name!r} was dropped meanwhile")
    rollup = Rollup.parse(name, kept)
    if to not in rollup.levels:
        rollup = replace(rollup, added=(*rollup.added, to))
    cells = Cells(store.log, rollup)
    since = cells.state.complete.get(from_)
    if since is not None:
        start = when.bucket(since, to, rollup.tz)
        since = start if start == since else when.next_bucket(start, to, rollup.tz)
    made: dict[tuple[int, str], Cell] = {}
    for bucket, tags, cell in cells.scan(from_, since, None):
        made.setdefault((when.bucket(bucket, to, rollup.tz), tags), Cell()).add(cell)
    for bucket, tags, _ in list(cells.scan(to, since, None)):
        cells.get(to, bucket, tags)
        cells.put(to, bucket, tags, None)
    for (bucket, tags), cell in made.items():
        cells.get(to, bucket, tags)
        cells.put(to, bucket, tags, cell)
    complete = dict(cells.state.complete)
    if to not in Rollup.parse(name, kept).levels and since is not None:
        complete[to] = since
    with store.log.transaction() as tx:
        if tx.get(STATES, name) != before or tx.get(DEFINED, name) != kept:
            return None
        tx.put(DEFINED, name, rollup.dump())
        state = cells.state.moved(complete=complete, cells=cells.counts())
        _write(tx, name, list(cells.changes()), state)
    return len(made)
