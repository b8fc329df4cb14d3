"""All consumers of an opened store, and who drives them: `drain()`, the background worker, `run()`."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from .. import values
from ..clock import ManualClock
from ..errors import AlreadyExists, BizError, InvalidQuery, InvalidValue, StorageError
from ..log.bells import new_bell, ring
from ..plan.condition import TRUE, And, Condition, conditions
from ..plan.predicates import split
from ..plan.select import Select
from ..record import Stored, record_of
from .consumer import Consumer, Handler, Pattern
from .dead import DeadLetters
from .lease import lease
from .subscription import Subscription

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Consumers", "Ticker"]

_log = logging.getLogger("bizcode")
REST = 0.5
"""Seconds for which work that can't go on (another process is at it, or it isn't ready) is left alone."""
IDLE = 1.0
"""Seconds after which the worker looks again even if nothing was committed: a lease may have come free."""


class Ticker(Protocol):
    """Work that is due at an instant of the business's clock."""

    name: str

    def due(self) -> int | None:
        """When it is due next, in microseconds; None for never."""
        ...

    def tick(self, now: int) -> None:
        """Do what is due by now."""
        ...


class Consumers:
    """The followers and tickers registered in this process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dead_letters = DeadLetters(store)
        self._consumers: dict[str, Consumer] = {}
        self._tickers: dict[str, Ticker] = {}
        self._lock = threading.Lock()
        self._tick_locks: dict[str, Any] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._busy: dict[str, Future[None]] = {}
        self._rests: dict[str, tuple[int, float]] = {}
        self._seal = False
        self._local = threading.local()
        self._foreground = False

    # who there is

    def register(self, consumer: Consumer) -> Consumer:
        """Take up a consumer; one of the same name, from an earlier definition, is replaced."""
        with self._lock:
            known = self._consumers.get(consumer.name)
            if known is not None:
                known.stopped = True
            self._consumers[consumer.name] = consumer
        self.start()
        return consumer

    def unregister(self, name: str) -> None:
        """Let go of a consumer in this process; its position is kept."""
        with self._lock:
            consumer = self._consumers.pop(name, None)
        if consumer is not None:
            consumer.stopped = True

    def get(self, name: str) -> Consumer | None:
        return self._consumers.get(name)

    def tickers(self, ticker: Ticker) -> None:
        """Take up work that is due by the clock; one of the same name is replaced."""
        with self._lock:
            self._tickers[ticker.name] = ticker
        self.start()

    def remove_ticker(self, name: str) -> None:
        with self._lock:
            self._tickers.pop(name, None)

    def follow(
        self,
        name: str,
        pattern: Pattern,
        *,
        function: Callable[[Any], Any] | None = None,
        handler: Handler | None = None,
        since: Any = None,
        durable: bool = True,
        prepare: Callable[[Consumer], None] | None = None,
        **options: Any,
    ) -> Consumer:
        """A new consumer from now on, from the "start", or from an instant. `prepare` is called with it before the
        worker may take it up."""
        begin, pattern = self._begin(since, pattern)
        consumer = Consumer(
            self.store,
            name,
            pattern,
            function=function,
            handler=handler,
            durable=durable,
            begin=begin,
            **options,
        )
        consumer.load()
        if prepare is not None:
            prepare(consumer)
        return self.register(consumer)

    def _begin(self, since: Any, pattern: Pattern) -> tuple[int, Pattern]:
        from dataclasses import replace

        self.store.log.flush()
        if since is None or since == "now":
            return self.store.log.head(), pattern
        if since == "start":
            return 0, pattern
        start = self.store.engine.range_start(since)
        return 0, replace(pattern, since=start)

    def subscribe(
        self,
        select: Select,
        fn: Callable[[Any], Any],
        *,
        where: Any = None,
        name: str | None = None,
        since: Any = None,
    ) -> Subscription:
        """Call fn with each record of a selection that meets the conditions too, after its commit."""
        if not callable(fn):
            raise InvalidValue(f"subscribe() takes a function, not {fn!r}")
        if select.since is not None or select.until is not None:
            raise InvalidQuery("a subscription has no range: leave out since() and until(), or say since=")
        condition: Condition = TRUE if where is None else conditions([where], {}, self.store.tz)
        plain, python = split(And((condition, select.where)))
        names, store_id = select.names, self.store.log.store_id

        def matches(row: Stored) -> bool:
            return plain.matches(record_of(row, store_id))

        def told(record: Any) -> Any:
            # A user's predicate fails as the function does: it is tried again, then a dead letter is left.
            return fn(record) if python is None or python.matches(record) else None

        pattern = Pattern(frozenset((select.kind,)), None if names is None else frozenset(names), matches)
        if name is not None:
            name = values.name(name, "a subscription")
        id = name or f"subscription-{uuid.uuid4().hex[:12]}"
        if name is not None and name in self._consumers and not self._consumers[name].stopped:
            raise AlreadyExists(f"there is a subscription {name!r} in this process already")
        self.follow(id, pattern, function=told, since=since, durable=name is not None)
        return Subscription(id, lambda: self._end(id))

    def _end(self, name: str) -> None:
        consumer = self._consumers.get(name)
        self.unregister(name)
        if consumer is not None and not getattr(self._local, "inside", False):
            with consumer.lock:
                pass  # a call that has begun ends before unsubscribe returns

    # driving them

    def drain(self) -> None:
        """Do all that is due, in this thread, and return when idle."""
        if getattr(self._local, "inside", False):
            raise InvalidQuery("drain() can't be called by a handler: it runs in it already")
        self.store.log.flush()
        self._local.inside = True
        try:
            while True:
                progress = self._awaken()
                known = list(self._consumers.values())
                for consumer in known:
                    progress |= self._exhaust(consumer, self._patience)
                progress |= self._tick(self.store.now())
                if not progress and known == list(self._consumers.values()):
                    break
            if self.store.segments.due() and not self.store.log_readonly:
                self.store.segments.seal()
                self.store.segments.merge()
        finally:
            self._local.inside = False

    @property
    def inside(self) -> bool:
        """Whether this thread is at work for the consumers: a handler runs in it, say."""
        return getattr(self._local, "inside", False)

    def catch_up(self, name: str) -> bool:
        """Let a consumer take what there is, in this thread; True if it is up to date then. False where another
        process is at it, or there is none of that name in this process."""
        consumer = self._consumers.get(name)
        if consumer is None:
            return False
        self.store.log.flush()
        self._exhaust(consumer, lambda _: True)
        return not self._behind(consumer)

    def _patience(self, seconds: float) -> bool:
        """Wait between retries in the calling thread; where time stands still there is nothing to wait for."""
        if seconds and not isinstance(self.store.clock, ManualClock):
            time.sleep(seconds)
        return True

    def _awaken(self) -> bool:
        """Take up what an earlier process left behind; True if there was something."""
        found = [space for space in self.store.awaken if self.store.log.scan(space, limit=1)]
        for space in found:
            self.store.awaken.pop(space)()
        return bool(found)

    def _exhaust(self, consumer: Consumer, pause: Callable[[float], bool]) -> bool:
        """Batches of one consumer until there is nothing new; True if there was any."""
        if not self._behind(consumer):
            return False
        done = False
        with consumer.lock:
            if not consumer.durable:
                while pause(0) and consumer.step(pause):
                    done = True
                return done
            with lease(self.store.log.locks, consumer.name) as mine:
                while mine and pause(0) and consumer.step(pause):
                    done = True
        return done

    def _behind(self, consumer: Consumer) -> bool:
        if consumer.stopped:
            return False
        if consumer.revivable():
            return True
        return consumer.position < self.store.log.head() or consumer.load() < self.store.log.head()

    def _tick(self, now: int) -> bool:
        """Whatever is due by the clock, in order of when it is due."""
        done = False
        for _ in range(10_000):
            due = [(at, t.name, t) for t in list(self._tickers.values()) if (at := t.due()) is not None]
            # What is due at once says the present instant, which is later than the one we came with.
            now = max(now, self.store.now())
            ready = sorted((pair for pair in due if pair[0] <= now), key=lambda pair: pair[:2])
            progress = False
            for _, _, ticker in ready:
                progress |= self._tick_one(ticker, now)
            done |= progress
            if not progress:
                break
        return done

    def _tick_one(self, ticker: Ticker, now: int) -> bool:
        """What one ticker has due; False where another process is at it, or nothing moved."""
        with self._tick_lock(ticker.name), lease(self.store.log.locks, f"tick:{ticker.name}") as mine:
            before = ticker.due()
            now = max(now, self.store.now())
            if not mine or before is None or before > now:
                return False
            ticker.tick(now)
            return True

    def _tick_lock(self, name: str) -> Any:
        with self._lock:
            return self._tick_locks.setdefault(name, threading.RLock())

    def poke(self) -> None:
        """Something may be due: wake the worker."""
        self.store.log.wake()

    def upkeep(self) -> None:
        """Seal and merge on the worker's thread."""
        self._seal = True
        self.start()
        self.poke()

    # the worker

    def start(self) -> None:
        """Start the background worker, unless the store was opened without or runs in the foreground."""
        if not self.store.worker or self.store.closed or self._foreground:
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._thread = threading.Thread(target=self._work, name="bizcode-worker", daemon=True)
                self._thread.start()
        self.poke()

    def _work(self) -> None:
        self._local.inside = True
        while not self._stopping.is_set():
            try:
                changes = self.store.log.changes()
                self._dispatch()
                timeout = self._timeout()
                if timeout > 0:
                    self.store.log.wait(changes, timeout)
            except BizError as error:
                if self.store.closed or self._stopping.is_set():
                    return
                if not isinstance(error, StorageError):
                    _log.exception("the background worker could not look for work")
                self._stopping.wait(0.2)

    def _dispatch(self) -> None:
        """Give each consumer with something new a thread of its own: one that hangs holds up no other."""
        self._awaken()
        if self._seal:
            self._seal = False
            self._spawn("upkeep", self._maintain)
        for consumer in list(self._consumers.values()):
            if not self._resting(consumer.name) and self._behind(consumer):
                self._spawn(consumer.name, lambda consumer=consumer: self._exhaust(consumer, self._pause))
        if self._tickers and not isinstance(self.store.clock, ManualClock):
            for ticker in list(self._tickers.values()):
                due = ticker.due()
                if due is not None and due <= self.store.now() and not self._resting(f"tick:{ticker.name}"):
                    self._spawn(
                        f"tick:{ticker.name}", lambda ticker=ticker: self._tick_one(ticker, self.store.now())
                    )

    def _resting(self, name: str) -> bool:
        """Whether work that could not go on is left alone, until the log moves or a while has passed."""
        rest = self._rests.get(name)
        if rest is None:
            return False
        if rest[1] > time.monotonic() and (name.startswith("tick:") or rest[0] == self.store.log.head()):
            return True
        self._rests.pop(name, None)
        return False

    def _spawn(self, name: str, work: Callable[[], Any]) -> None:
        running = self._busy.get(name)
        if running is not None and not running.done():
            return
        future: Future[None] = Future()
        self._busy[name] = future

        def body() -> None:
            self._local.inside = True
            try:
                head = self.store.log.head()
                if work() is False:
                    self._rests[name] = (head, time.monotonic() + REST)
            except (BizError, OSError):
                # The store is closing, its disk is full, ...: the position is where it was, so try again.
                self._stopping.wait(0.2)
            except Exception:  # noqa: BLE001 - a bug must not end the worker
                _log.exception("%s failed in the background; it is tried again", name)
                self._stopping.wait(REST)
            finally:
                self._busy.pop(name, None)
                future.set_result(None)
                with contextlib.suppress(BizError):
                    self.store.log.wake()

        threading.Thread(target=body, name=f"bizcode-{name}", daemon=True).start()

    def _maintain(self) -> None:
        self.store.segments.seal()
        self.store.segments.merge()

    def _pause(self, seconds: float) -> bool:
        return not self._stopping.wait(seconds)

    def _timeout(self) -> float:
        """Seconds until something is due. What runs or rests already needs no hurry: its end wakes the worker."""
        longest = REST if self._rests else IDLE
        if isinstance(self.store.clock, ManualClock):
            return longest
        now = self.store.now()
        dues = [
            at
            for t in list(self._tickers.values())
            if f"tick:{t.name}" not in self._busy
            and f"tick:{t.name}" not in self._rests
            and (at := t.due()) is not None
        ]
        soonest = min(dues, default=None)
        return longest if soonest is None else max(0.005, min(longest, (soonest - now) / 1e6))

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """The worker in the foreground, until SIGTERM or SIGINT: what has begun is finished or rolled back."""
        previous: dict[int, Any] = {}
        self.stop_worker()
        self._foreground = True
        self._stopping.clear()
        bell = new_bell()

        def stop(*_: Any) -> None:
            ring(bell)  # and nothing else: the signal may have come while this thread held a lock

        main = threading.current_thread() is threading.main_thread()
        if main:
            for number in (signal.SIGTERM, signal.SIGINT):
                previous[number] = signal.signal(number, stop)
        thread = threading.Thread(target=self._work, name="bizcode-worker", daemon=True)
        thread.start()
        try:
            if ready is not None:
                ready()
            while not self._stopping.is_set() and not bell.acquire(timeout=0.5):
                pass
        finally:
            self._stopping.set()
            with contextlib.suppress(BizError):
                self.store.log.wake()
            thread.join(timeout=5)
            self._join(5)
            self._foreground = False
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _join(self, seconds: float) -> None:
        """Wait for what has begun, but not for a function that hangs."""
        end = time.monotonic() + seconds
        for future in list(self._busy.values()):
            with contextlib.suppress(TimeoutError):
                future.result(max(0.0, end - time.monotonic()))

    def stop_worker(self) -> None:
        """End the background worker after what it is doing."""
        thread = self._thread
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(BizError):
                self.store.log.wake()
            thread.join(timeout=5)
            self._join(2)
        self._thread = None

    def close(self) -> None:
        """End the worker; every position is committed."""
        for consumer in list(self._consumers.values()):
            consumer.stopped = True
        self.stop_worker()
        if not self.store.log_readonly:
            for consumer in list(self._consumers.values()):
                if consumer.lock.acquire(blocking=False):
                    try:
                        consumer.settle()
                    finally:
                        consumer.lock.release()
