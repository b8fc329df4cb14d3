"""One named follower: which records it wants, what it does with them, how far it is.

State space "consumer", key = its name: {"position": n, ...}. The position is written in the transaction
of the effects, so a crash neither loses nor repeats an effect inside the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from ..errors import Conflict
from ..log import Transaction
from ..record import SYSTEM, Stored, record_of
from ..unit import UnitOfWork
from .dead import bury

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Consumer", "Handler", "Pattern", "Stopped", "call", "position_of"]

BATCH = 1_000
RETRIES = 3
CONFLICTS = 20
RANGE, RANGE_FROM = 200_000, 2_000
"""How many positions are taken at once where a consumer can, and from how many on it is worth it."""

STRIDE = 5_000
"""A position that moved over records that nobody wanted is written once in so many."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which records: kinds, exact names (None: all), a time from which on, and any further test.
    `system`: those system records too, by name."""

    kinds: frozenset[str]
    names: frozenset[str] | None = None
    test: Callable[[Stored], bool] | None = None
    system: frozenset[str] = frozenset()
    since: int | None = None

    def wants(self, row: Stored) -> bool:
        if row.kind == SYSTEM and row.name in self.system:
            return True
        return (
            row.kind in self.kinds
            and (self.names is None or row.name in self.names)
            and (self.since is None or row.time >= self.since)
            and (self.test is None or self.test(row))
        )

    def may_want(self, kind: str, name: str) -> bool:
        """Whether a record of that kind and name can be wanted."""
        return kind in self.kinds and (self.names is None or name in self.names)


class Stopped(Exception):
    """The process is told to stop while a function is waited for: the batch is taken again later."""


class _Overtaken(Exception):
    """Another writer got there first at the commit: the function is called again, which is no failure."""

    def __init__(self, conflict: Conflict) -> None:
        self.conflict = conflict


class Handler(Protocol):
    """What a consumer does."""

    def batch(self, tx: Transaction, rows: Sequence[Stored]) -> None:
        """Take a batch: all writes through `tx`, which commits them with the position."""
        ...


def call(function: Callable[..., Any], *given: Any) -> Any:
    """Call a function, or run a coroutine function to its end."""
    result = function(*given)
    return _finished(result) if inspect.iscoroutine(result) else result


def _finished(coroutine: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # drain() was called inside a running loop, which can't run a second one: another thread can.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


def position_of(store: Store, name: str) -> int | None:
    """How far a consumer is, None if there is none of that name."""
    kept = store.log.get("consumer", name)
    return None if kept is None else orjson.loads(kept)["position"]


@dataclass(eq=False)
class Consumer:
    """A follower of the log.

    Args:
        name: what its position is kept under; of an ephemeral one, what its dead letters say.
        function: called with each record, inside a unit of work; or None with a `handler` of batches.
        durable: keep the position; else it begins at `position` and is gone with the process.
        begin: where a durable one begins when it is first defined.
        on_error: called as fn(error, record) after the last retry, in place of the dead letters.
        steps: takes what comes after a position by itself, as `step` does, with `in_unit` for what it commits.
        ended: gives back what it held, when it is ended in this process.
        ready: asked before each batch; False leaves the consumer alone for now.
    """

    store: Store
    name: str
    pattern: Pattern
    function: Callable[[Any], Any] | None = None
    handler: Handler | None = None
    batches: Callable[[UnitOfWork, list[Stored]], None] | None = None
    ranges: Callable[[UnitOfWork, int, int], bool] | None = None
    steps: Callable[[int, Callable[[float], bool]], bool] | None = None
    reload: Callable[[], None] | None = None
    revive: Callable[[UnitOfWork, dict[str, Any]], None] | None = None
    durable: bool = True
    begin: int = 0
    retries: int = RETRIES
    backoff: float = 0.1
    on_error: Callable[[BaseException, Any], Any] | None = None
    ready: Callable[[], bool] | None = None
    ended: Callable[[], None] | None = None
    stopped: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    position: int = -1
    pause: Callable[[float], bool] | None = None
    _written: int = -1
    _one_by_one_to: int = 0
    _history: Iterator[list[Stored]] | None = None
    _history_to: int = 0

    def load(self) -> int:
        """The position as committed by anyone."""
        if not self.durable:
            if self.position < 0:
                self.position = self.begin
            return self.position
        kept = position_of(self.store, self.name)
        if kept is None:
            with self.store.log.transaction() as tx:
                if tx.get("consumer", self.name) is None:
                    tx.put("consumer", self.name, orjson.dumps({"position": self.begin}))
            kept = position_of(self.store, self.name)
            assert kept is not None
        if kept != self._written:
            # Another process went on from here, or it was set back to be rebuilt.
            if self._written >= 0 and self.reload is not None:
                self.reload()
            self._written = kept
            self.position = kept
            self._history = None
        return self.position

    def settle(self) -> None:
        """Write where it is, if that is past what nobody wanted and so was not written yet."""
        if self.durable and self.position > self._written >= 0:
            with contextlib.suppress(Conflict), self.store.log.transaction() as tx:
                self._write_position(tx, self.position)
                self._written = self.position

    def lag(self) -> int:
        """How many positions it is behind."""
        return max(0, self.store.log.head() - self.load())

    def step(self, pause: Callable[[float], bool]) -> bool:
        """Take one batch; False when there was nothing new. `pause` waits between retries and says
        whether to go on. The caller holds the lock and the lease."""
        if self.stopped or (self.ready is not None and not self.ready()):
            return False
        if self.revivable() and self._revived(pause):
            return True
        after = self.load()
        if self.steps is not None:
            self.pause = pause
            return self.steps(after, pause)
        if self.ranges is not None and self._ranged(self.ranges, after, pause):
            return True
        rows = self._read(after)
        if not rows:
            return False
        last = rows[-1].position
        try:
            return self._work(rows, last, pause)
        finally:
            if self.position != last:
                # What was read ahead of the history is to be read again.
                self._history = None

    def _work(self, rows: list[Stored], last: int, pause: Callable[[float], bool]) -> bool:
        wanted = [row for row in rows if self.pattern.wants(row)]
        if not wanted:
            self.position = last
            if self.durable and last - self._written >= STRIDE:
                with self.store.log.transaction() as tx:
                    self._write_position(tx, last)
                self._written = last
            return True
        if self.handler is not None:
            with self.store.log.transaction() as tx:
                self.handler.batch(tx, wanted)
                self._write_position(tx, last)
            self.position = self._written = last
            return True
        if self.batches is not None:
            batches = self.batches
            return bool(self.in_unit(lambda unit: batches(unit, wanted), last, pause))
        return self._one_by_one(wanted, last, pause)

    def _ranged(
        self, ranges: Callable[[UnitOfWork, int, int], bool], after: int, pause: Callable[[float], bool]
    ) -> bool:
        """Take a long stretch of the log at once, by its positions; False where it can't be."""
        until = min(self.store.log.head(), after + RANGE)
        if until - after < RANGE_FROM or after < self._one_by_one_to:
            return False
        done = self.in_unit(lambda unit: ranges(unit, after, until), until, pause)
        if done is False:
            self._one_by_one_to = until
        return done is True

    def in_unit(
        self, work: Callable[[UnitOfWork], bool | None], last: int, pause: Callable[[float], bool]
    ) -> bool | None:
        """A whole batch in one unit of work: functions run without a lock, everything commits together. False
        if the work says that it did nothing, None if the process is to stop."""
        self.pause = pause
        for attempt in range(CONFLICTS + 1):
            unit = UnitOfWork(self.store.log)
            token = unit.enter()
            try:
                if work(unit) is False:
                    unit.discard()
                    return False
            except Stopped:
                unit.discard()
                if self.reload is not None:
                    self.reload()
                return None
            except BaseException:
                unit.discard()
                if self.reload is not None:
                    self.reload()
                raise
            finally:
                unit.leave(token)
            unit.action(lambda tx: self._write_position(tx, last))
            try:
                self.store.writer.written(len(unit.commit()))
                break
            except Conflict:
                if self.reload is not None:
                    self.reload()
                if attempt == CONFLICTS:
                    raise
        self.position = last
        if self.durable:
            self._written = last
        self._history = None if self.ranges is not None else self._history
        return True

    def _read(self, after: int) -> list[Stored]:
        catalog = self.store.segments.catalog
        while True:
            sealed = catalog().sealed_to
            if after >= sealed:
                self._history = None
                rows = self.store.log.read(after, limit=BATCH)
                if catalog().sealed_to > after:
                    continue  # sealed in between: what was read may begin after that
                return rows or self.skip(after)
            if self._history is None:
                kinds = set(self.pattern.kinds) | ({SYSTEM} if self.pattern.system else set())
                names = None
                if self.pattern.names is not None:
                    names = self.pattern.names | self.pattern.system
                self._history = self.store.segments.rows(after, sealed, kinds=kinds, names=names)
                self._history_to = sealed
            rows = next(self._history, None)
            if rows is not None:
                return rows
            self._history = None
            # Nothing that it wants is left in what was sealed when this history began; more may be by now.
            after = self.position = self._history_to

    def skip(self, position: int) -> list[Stored]:
        """Nobody wanted what was up to there: the position is written now and then only."""
        if self.durable and position - self._written >= STRIDE:
            with self.store.log.transaction() as tx:
                self._write_position(tx, position)
            self._written = position
        return []

    def _write_position(self, tx: Transaction, position: int) -> None:
        if self.durable:
            kept = tx.get("consumer", self.name)
            data = orjson.loads(kept) if kept else {}
            if 0 <= self._written != data.get("position", self._written):
                # A lease that lies on another machine can be lost, with a connection, unnoticed.
                raise Conflict(f"{self.name!r} was moved on or set back by another process meanwhile")
            tx.put("consumer", self.name, orjson.dumps({**data, "position": position}))

    def _one_by_one(self, rows: list[Stored], last: int, pause: Callable[[float], bool]) -> bool:
        pending = 0
        for row in rows:
            if self.stopped or not pause(0):
                break
            done = self._take(row, pause)
            if done is None:
                break
            self.position = row.position
            pending = 0 if done else pending + 1
        else:
            self.position = last
        if self.durable and self.position > self._written:
            with self.store.log.transaction() as tx:
                self._write_position(tx, self.position)
            self._written = self.position
        return True

    def _take(self, row: Stored, pause: Callable[[float], bool]) -> bool | None:
        """One record: True if its position is committed with its effects, False if it had none inside the
        store, None if it must be taken again later."""
        record = record_of(row, self.store.log.store_id)
        attempts = 0
        conflicts = 0
        while True:
            try:
                return self._attempt(record, row.position)
            except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                error = raised
                if isinstance(raised, _Overtaken):
                    conflicts += 1
                    if conflicts <= CONFLICTS:
                        time.sleep(random.random() * 0.001 * conflicts)
                        continue
                    error = raised.conflict
                attempts += 1
                if attempts > self.retries:
                    self._give_up(error, record, row.position, attempts)
                    return True
                if not pause(self.backoff * 4 ** (attempts - 1)) or self.stopped:
                    return None

    def _called(self, record: Any) -> UnitOfWork:
        """The unit of what the function wrote for a record, yet to be committed; gone if it raises."""
        assert self.function is not None
        unit = UnitOfWork(self.store.log)
        token = unit.enter()
        try:
            call(self.function, record)
        except BaseException:
            unit.discard()
            raise
        finally:
            unit.leave(token)
        return unit

    def _attempt(self, record: Any, position: int) -> bool:
        unit = self._called(record)
        if unit.empty:
            unit.discard()
            return False
        unit.action(lambda tx: self._write_position(tx, position))
        self._commit(unit)
        if self.durable:
            self._written = position
        return True

    def _commit(self, unit: UnitOfWork) -> None:
        try:
            self.store.writer.written(len(unit.commit()))
        except Conflict as error:
            unit.discard()
            raise _Overtaken(error) from error

    def _give_up(self, error: Exception, record: Any, position: int, attempts: int) -> None:
        if self.on_error is not None:
            try:
                call(self.on_error, error, record)
            except Exception as failed:  # noqa: BLE001 - the last resort failed too
                error = failed
            else:
                with self.store.log.transaction() as tx:
                    self._write_position(tx, position)
                self._written = position
                return
        with self.store.log.transaction() as tx:
            bury(tx, self.name, position, error, attempts, self.store.now())
            self._write_position(tx, position)
        self._written = position

    def _due(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Its dead letters that someone asked to retry."""
        prefix = f"{self.name}:"
        for id, value in self.store.log.cached("dead").items():
            if id.startswith(prefix):
                kept = orjson.loads(value)
                if kept["due"] and kept["consumer"] == self.name:
                    yield id, kept

    def revivable(self) -> bool:
        """Whether there are dead letters to take again."""
        return (self.function is not None or self.revive is not None) and any(True for _ in self._due())

    def _revived(self, pause: Callable[[float], bool]) -> bool:
        found = False
        for id, kept in list(self._due()):
            found = True
            if self.revive is not None:
                self.in_unit(self._reviving(self.revive, id, kept), self.load(), pause)
                continue
            stored = self.store.stored_at(kept["position"])
            if stored is None:
                with self.store.log.transaction() as tx:
                    tx.delete("dead", id)
                continue
            record = record_of(stored, self.store.log.store_id)
            for _ in range(CONFLICTS):
                try:
                    self._again(record, id)
                except _Overtaken:
                    continue
                except Exception as error:  # noqa: BLE001 - back to the dead letters
                    with self.store.log.transaction() as tx:
                        bury(tx, self.name, kept["position"], error, kept["attempts"] + 1, self.store.now())
                break
        return found

    def _reviving(
        self, revive: Callable[[UnitOfWork, dict[str, Any]], None], id: str, kept: dict[str, Any]
    ) -> Callable[[UnitOfWork], None]:
        def work(unit: UnitOfWork) -> None:
            unit.put("dead", id, None)
            revive(unit, {**kept, "id": id})

        return work

    def _again(self, record: Any, id: str) -> None:
        """Take a dead letter once more; it is gone in the transaction of its effects."""
        unit = self._called(record)
        unit.put("dead", id, None)
        self._commit(unit)
