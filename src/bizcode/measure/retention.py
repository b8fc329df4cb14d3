"""What a rollup no longer keeps is deleted for good, by the business's clock: samples, and cells of each
granularity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..consume.consumer import position_of
from ..engine.cells import Cells
from ..engine.relation import Column
from ..log import Transaction
from ..plan.rollup import DEFINED, STATES, Rollup, State, consumer, key, space
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import MEASURE

if TYPE_CHECKING:
    import numpy as np

    from ..engine import Session
    from ..store import Store

__all__ = ["Retention"]

_CHUNK = 5_000
_SMALL = 100_000
_SHARE = 0.05
"""A larger file is written anew only once this share of it is to be deleted: it would be rewritten at each
bucket's end otherwise. Until then no query reads what is due."""

_POSITIONS = 50_000
_SPAN = 2_000_000
_PATIENCE = 1_000_000
"""Microseconds to wait for another process that keeps the rollup."""


class Retention:
    """Due whenever a bucket has passed one of the retentions."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = f"{consumer(name)}:retention"
        self._store = store
        self._metric = name
        self._later: int | None = None

    def _rollup(self) -> Rollup | None:
        kept = self._store.log.cached(DEFINED).get(self._metric)
        return None if kept is None else Rollup.parse(self._metric, kept)

    def due(self) -> int | None:
        rollup = self._rollup()
        if rollup is None or not rollup.retention or self._store.log_readonly:
            return None
        store = self._store
        now = store.now()
        if self._later is not None and now < self._later:
            return self._later
        state = State.parse(store.log.get(STATES, self._metric))
        dues = []
        for source, length in rollup.retention:
            cut = rollup.cut(source, now)
            assert cut is not None
            done = state.cuts.get(source)
            if done is None or done < cut:
                return now
            unit = rollup.levels[0] if source == "raw" else source
            end = when.next_bucket(done, unit, rollup.tz)
            dues.append(max(now + 1, when.shift(end, when.duration(length), rollup.tz)))
        return min(dues)

    def tick(self, now: int) -> None:
        rollup = self._rollup()
        if rollup is None:
            return
        store = self._store
        if not store.consumers.catch_up(consumer(self._metric)):
            # Another process is filling the cells: the samples are needed yet.
            self._later = now + _PATIENCE
            return
        for source, _ in rollup.retention:
            cut = rollup.cut(source, now)
            assert cut is not None
            done = State.parse(store.log.get(STATES, self._metric)).cuts.get(source)
            if done is not None and done >= cut:
                continue
            if source == "raw":
                self._delete_samples(rollup, cut)
            else:
                self._delete_cells(rollup, source, cut)

    def _passed(self, tx: Transaction, source: str, cut: int, deleted: bool) -> None:
        state = State.parse(tx.get(STATES, self._metric))
        complete = dict(state.complete)
        if deleted:
            complete[source] = max(cut, complete.get(source, cut))
        tx.put(STATES, self._metric, state.moved(complete=complete, cuts={**state.cuts, source: cut}).dump())

    def _delete_cells(self, rollup: Rollup, level: str, cut: int) -> None:
        store = self._store
        cells = Cells(store.log, rollup)
        gone = [key(bucket, tags) for bucket, tags, _ in cells.keys(level, None, cut)]
        # First nobody reads them any more, then they go, in short transactions.
        with store.log.transaction() as tx:
            self._passed(tx, level, cut, bool(gone))
        for start in range(0, len(gone), _CHUNK):
            with store.log.transaction() as tx:
                chunk = gone[start : start + _CHUNK]
                deleted = sum(tx.delete(space(level, self._metric), at) for at in chunk)
                state = State.parse(tx.get(STATES, self._metric))
                counts = {**state.cells, level: state.cells.get(level, 0) - deleted}
                tx.put(STATES, self._metric, state.moved(cells=counts).dump())

    def _delete_samples(self, rollup: Rollup, cut: int) -> None:
        store = self._store
        reached = position_of(store, consumer(self._metric)) or 0
        retracted = self._retracted(cut, reached)
        spans = list(self._spans(cut, reached))
        # First nobody reads them any more, then they go.
        with store.log.transaction() as tx:
            self._passed(tx, "raw", cut, self._any(cut, reached) or bool(retracted))
        gone = 0
        for low, high in spans:
            gone += self._erase(cut, low, high, [at for at in retracted if low < at <= high])
        if gone:
            store.log.vacuum()

    def _spans(self, cut: int, reached: int) -> Iterator[tuple[int, int]]:
        """The positions among which there may be samples before the cut, a bounded number at a time: (after, up to)."""
        catalog = self._store.segments.catalog()
        old = [s for s in catalog.of(MEASURE, self._metric) if s.min_time < cut]
        low = min([catalog.sealed_to, *(s.first_position - 1 for s in old)])
        while low < reached:
            yield low, min(low + _SPAN, reached)
            low += _SPAN

    def _erase(self, cut: int, low: int, high: int, retracted: list[int]) -> int:
        """Delete the samples before the cut at some positions; how many."""
        import numpy as np

        store = self._store
        found, named = self._samples(cut, low, high)
        found = np.unique(np.concatenate([found, np.asarray(retracted, np.int64)]))
        if named > store.segments.catalog().sealed_to:
            # An id stays known when its sample leaves a file: written again, it is not counted twice.
            store.segments.seal(store.log.head())
        wanted = self._worthwhile(found)
        if not len(wanted):
            return 0

        def also(tx: Transaction) -> None:
            to = store.segments.catalog().sealed_to
            tail = wanted[wanted > to].tolist()
            for start in range(0, len(tail), _POSITIONS):
                tx.erase(tail[start : start + _POSITIONS])
            for position in retracted:
                tx.delete("retracted", f"{position:020d}")

        store.segments.erase(wanted, also)
        return len(wanted)

    def _samples(self, cut: int, low: int, high: int) -> tuple[np.ndarray, int]:
        """The positions of the samples before the cut, and the highest of those with an id of their own."""
        import numpy as np

        sql = "SELECT position, named FROM ({}) WHERE position > {} AND position <= {}"
        with self._store.engine.session() as session:
            inner, parameters = self._old(session, cut)
            held: dict[str, Any] = session.cursor.execute(
                sql.format(inner, low, high), parameters.values
            ).fetchnumpy()
        found = np.asarray(held["position"], np.int64)
        given = found[np.asarray(held["named"], bool)] if len(found) else found
        return found, int(given.max()) if len(given) else 0

    def _any(self, cut: int, reached: int) -> bool:
        with self._store.engine.session() as session:
            inner, parameters = self._old(session, cut)
            return bool(
                session.fetch(f"SELECT 1 FROM ({inner}) WHERE position <= {reached} LIMIT 1", parameters)
            )

    def _old(self, session: Session, cut: int) -> tuple[str, Parameters]:
        select = Select(kind=MEASURE, names=(self._metric,), until=when.to_datetime(cut))
        parameters = Parameters()
        columns = {"position": Column("position"), "named": Column("named")}
        return session.relation(select, columns, parameters).sql, parameters

    def _retracted(self, cut: int, reached: int) -> list[int]:
        """The retracted samples before the cut that the cells no longer hold."""
        store = self._store
        with store.engine.session() as session:
            known = sorted(session.view.retracted.get((MEASURE, self._metric), ()))
        rows = [*store.log.at(known), *store.segments.at(known)] if known else []
        return sorted(
            {row.position for row in rows if row.time < cut and self._settled(row.position, reached)}
        )

    def _settled(self, position: int, reached: int) -> bool:
        kept = self._store.log.get("retracted", f"{position:020d}")
        return kept is not None and orjson.loads(kept)["at"] <= reached

    def _worthwhile(self, found: np.ndarray) -> np.ndarray:
        """The positions without those of large files of which only little is to be deleted."""
        import numpy as np

        left = np.ones(len(found), bool)
        for segment in self._store.segments.catalog().of(MEASURE, self._metric):
            start = found.searchsorted(segment.first_position)
            end = found.searchsorted(segment.last_position, side="right")
            if segment.rows > _SMALL and 0 < end - start < segment.rows * _SHARE:
                left[start:end] = False
        return found[left]
