"""Running a pipeline: as a consumer that follows the log, or over history to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ..consume import Consumer, Consumers
from ..consume.consumer import RANGE
from ..record import Stored
from ..unit import UnitOfWork
from .columns import columnar
from .element import Element
from .runtime import Runtime, pattern_of
from .vectorised import Vectorised

if TYPE_CHECKING:
    from ..store import Store
    from .compiled import Compiled
    from .pipeline import Pipeline

__all__ = ["distribute", "follow", "halt", "over_history"]


def distribute(
    pipeline: Pipeline, name: str, since: Any, plan: Compiled, place: Path, session: Any
) -> Consumer:
    """As `follow`, durably, with Spark to keep the windows, or both sides of the join.

    Args:
        place: a directory that the driver and the workers see.
        session: Spark's.
    """
    from .distributed_joins import DistributedJoin
    from .distributed_windows import DistributedWindows

    full = f"stream:{name}"
    known = pipeline.store.log.get("define:stream", name)
    generation = 0 if known is None else orjson.loads(known).get("generation", 0)
    runtime = Runtime(pipeline, name, generation=generation)
    if isinstance(plan, tuple):
        made = DistributedJoin(full, runtime, plan, place, session)
    else:
        made = DistributedWindows(full, runtime, plan, place, session)
    consumers = pipeline.store.consumers

    def prepare(consumer: Consumer) -> None:
        made.consumer, consumer.ended = consumer, made.stop
        _connect(runtime, consumer)

    consumer = consumers.follow(full, pattern_of(pipeline), since=since, steps=made.step, prepare=prepare)
    consumers.tickers(made)
    return consumer


def halt(consumers: Consumers, full: str) -> None:
    """End a pipeline in this process."""
    consumer = consumers.get(full)
    consumers.unregister(full)
    consumers.remove_ticker(full)
    if consumer is not None and consumer.ended is not None:
        with consumer.lock:
            consumer.ended()


def _connect(runtime: Runtime, consumer: Consumer) -> None:
    state = runtime.state
    begun = state.get("begun")
    if begun is not None:
        consumer.pattern = replace(consumer.pattern, since=begun[1])
    elif not state.items(""):
        state.put("begun", [consumer.position, consumer.pattern.since])
        unit = UnitOfWork(runtime.store.log)
        state.save(unit)
        unit.commit()
    consumer.reload = runtime.state.reload
    consumer.revive = runtime.letters.revive
    runtime.pause = lambda seconds: consumer.pause is None or consumer.pause(seconds)


def follow(pipeline: Pipeline, name: str, since: Any, durable: bool) -> Consumer:
    """Run a pipeline from now on, or from `since`, in this process; durable, its state is kept by its name."""
    full = f"stream:{name}"
    known = pipeline.store.log.get("define:stream", name) if durable else None
    generation = 0 if known is None else orjson.loads(known).get("generation", 0)
    runtime = Runtime(pipeline, name if durable else None, generation=generation)
    runtime.name = name
    consumers = pipeline.store.consumers
    plan = columnar(pipeline)
    ranges = None if plan is None else Vectorised(runtime, plan).batch
    consumer = consumers.follow(
        full,
        pattern_of(pipeline),
        since=since,
        durable=durable,
        batches=runtime.batch,
        ranges=ranges,
        prepare=lambda consumer: _connect(runtime, consumer),
    )
    consumers.tickers(_Clock(full, pipeline.store, runtime, consumer))
    return consumer


def over_history(pipeline: Pipeline, since: Any) -> list[Any]:
    """The final results over everything up to now, or from `since` on; sinks are left out."""
    store = pipeline.store
    found: list[Element] = []
    low = None if since in (None, "start") else store.engine.range_start(since)
    unit = UnitOfWork(store.log)
    token = unit.enter()
    try:
        plan = columnar(pipeline)
        runtime = Runtime(pipeline, None, found.append, sinks=False)
        if plan is None or not _in_ranges(store, Vectorised(runtime, plan), low):
            found.clear()
            runtime = Runtime(pipeline, None, found.append, sinks=False)
            _one_by_one(runtime, low)
        runtime.advance(2**62)
    finally:
        unit.leave(token)
        unit.discard()
    return _final(found)


def _one_by_one(runtime: Runtime, low: int | None) -> None:
    pattern = pattern_of(runtime.pipeline)
    gone = {int(key) for key, _ in runtime.store.log.scan("retracted")}
    for rows in _history(runtime.store):
        for row in rows:
            if row.position in gone or not pattern.wants(row) or row.kind == "system":
                continue
            if low is None or row.time >= low:
                runtime.take(row)
                runtime.advance()


def _in_ranges(store: Store, vectorised: Vectorised, low: int | None) -> bool:
    """Take all of history; False where that can't be done by range."""
    store.log.flush()
    head = store.log.head()
    return all(
        vectorised.take(after, min(head, after + RANGE), live=False, since=low)
        for after in range(0, head, RANGE)
    )


def _history(store: Store) -> Iterator[list[Stored]]:
    store.log.flush()
    after = 0
    while (sealed := store.segments.catalog().sealed_to) > after:
        yield from store.segments.rows(after, sealed)
        after = sealed
    rows = store.log.read(after)
    while (sealed := store.segments.catalog().sealed_to) > after:
        # Sealed in between: what was read may begin after that.
        yield from store.segments.rows(after, sealed)
        after, rows = sealed, store.log.read(sealed)
    yield rows


def _final(found: list[Element]) -> list[Any]:
    """Results without those that a later one corrected."""
    corrected = {former for element in found for former in element.ids[1:]}
    return [e.value for e in found if not e.withdrawn and (not e.ids or e.ids[0] not in corrected)]


class _Clock:
    """Moves a stream's watermark with the clock when nothing new comes."""

    def __init__(self, name: str, store: Store, runtime: Runtime, consumer: Consumer) -> None:
        self.name = name
        self._store = store
        self._runtime = runtime
        self._consumer = consumer

    def due(self) -> int | None:
        if self._consumer.stopped:
            return None
        due = self._runtime.due()
        if self._runtime.waits:
            due = self._store.now()
        if due is None or self._consumer.position < self._store.log.head():
            return None if due is None else max(due, self._store.now() + 1)
        return due

    def tick(self, now: int) -> None:
        with self._consumer.lock:
            unit = UnitOfWork(self._store.log)
            token = unit.enter()
            try:
                self._runtime.idle(now)
                self._runtime.advance()
                self._runtime.finish(unit, 2**62)
            finally:
                unit.leave(token)
            unit.commit()
