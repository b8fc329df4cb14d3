"""An opened store: the facilities that every door is given."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import when
from .clock import Clock, SystemClock
from .errors import StorageError
from .locate import cache_directory, is_url, open_log_at, tenant_directory
from .record import Stored
from .unit import UnitOfWork, current
from .writer import IDENTITY, Writer

if TYPE_CHECKING:
    from .alert import Alerts
    from .consume import Consumers
    from .engine import Engine
    from .log import Transaction
    from .segments import SegmentStore

__all__ = ["Store"]

DURABILITIES = ("commit", "disk", "buffered")


class Store:
    """One log, its segments, the engine over both, the writer and the consumers."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        tenant: str | None = None,
        timezone: str | None = None,
        clock: Clock | None = None,
        durability: str = "commit",
        identity: Sequence[str] | None = None,
        worker: bool = True,
        segments: str | None = None,
        engine: str | None = None,
    ) -> None:
        if engine is not None:
            from .engine.spark import check_address

            check_address(engine)
        self.spark = engine
        """The address of the Spark that answers questions and keeps streams' windows, if one does."""
        if durability not in DURABILITIES:
            raise StorageError(f"durability is one of {', '.join(DURABILITIES)}, not {durability!r}")
        if timezone is not None:
            when.zone(timezone)
        self.temporary = directory == ":memory:"
        root: str | Path
        if self.temporary:
            root = Path(tempfile.mkdtemp(prefix="bizcode-"))
            atexit.register(shutil.rmtree, root, ignore_errors=True)
        else:
            root = str(directory) if is_url(directory) else Path(directory)
        self.root = root
        """The directory or URL that it was opened by."""
        self.tenant = tenant
        self.clock: Clock = clock or SystemClock()
        self.durability = durability
        self.worker = worker
        self.closed = False
        self.log = open_log_at(root, tenant, durability)
        self.directory = (
            cache_directory(self.log.store_id) if isinstance(root, str) else tenant_directory(root, tenant)
        )
        self.timezone = self._setting("timezone", timezone, "UTC")
        self.tz = when.zone(self.timezone)
        self.segments_url = self._place_of_segments(segments)
        self.segments = self._segments()
        given = None if identity is None else "\n".join(identity)
        self.identity = tuple(self._setting("identity", given, "\n".join(IDENTITY)).split("\n"))
        self.writer = Writer(
            self.log, self.clock, self.tz, self.identity, durability == "buffered", self.stored_at
        )
        self.writer.written = self._written
        self.derived: dict[str, Callable[[], None]] = {}
        """What rebuilds each read model of this process; `forget` calls them."""
        self.erasing: list[Callable[[Sequence[int]], Callable[[Transaction], None] | None]] = []
        """Told the positions that `forget` is about to erase; what each gives back runs in the transaction."""
        self.closing: list[Callable[[], None]] = []
        """Run before the store is closed."""
        self.awaken: dict[str, Callable[[], object]] = {}
        """State space to what takes up the work that an earlier process left in it."""
        self._upkeep_lock = threading.Lock()
        self._since_upkeep = 0

    def _setting(self, name: str, given: str | None, default: str) -> str:
        """A setting given once is kept for those who open the store later without it."""
        kept = self.log.cached("settings").get(name)
        if given is None:
            return kept.decode() if kept is not None else default
        if kept is None or kept.decode() != given:
            try:
                with self.log.transaction() as tx:
                    tx.put("settings", name, given.encode())
            except StorageError:
                if kept is None and given != default:
                    raise
        return given

    def _place_of_segments(self, given: str | None) -> str:
        """Where the segments lie, "" for in the store's own directory. Kept once given; it can be changed as long
        as nothing is sealed."""
        kept = self.log.cached("settings").get("segments", b"").decode()
        if given is not None:
            from .segments.place import check_url

            given = check_url(given)
            if given != kept and self.log.scan("segment", limit=1):
                raise StorageError(
                    f"the segments of {self!r} lie in {kept or 'its own directory'}, not in {given}: copy the "
                    "business by `bizcode move` to have them elsewhere"
                )
        return self._setting("segments", given, "")

    def _segments(self) -> SegmentStore:
        from .segments import SegmentStore

        if self.segments_url:
            from .segments.place import place_at

            store = self.log.store_id
            return SegmentStore(place_at(self.segments_url, store, cache_directory(store)), self.log)
        homeless = None
        if isinstance(self.root, str):
            homeless = (
                f"{self!r} has no place for its segments: open it with "
                'segments="s3://bucket/prefix", or "file:///a/directory" that all its machines see'
            )
        return SegmentStore(self.directory, self.log, homeless=homeless)

    @property
    def shown(self) -> str:
        """Where it is kept, without a password."""
        return getattr(self.log, "url", None) or str(self.root)

    @cached_property
    def engine(self) -> Engine:
        engine: Engine
        if self.spark is None:
            from .engine import Engine

            engine = Engine(self.log, self.segments, self.clock, self.tz)
        else:
            from .engine.spark import SparkEngine

            engine = SparkEngine(self.log, self.segments, self.clock, self.tz, self.spark)
        engine.alerted = self._alerted
        return engine

    def _alerted(self, query: Any, metric: str, **options: Any) -> Any:
        from .alert import define

        return define(self, self.alerts, query, metric=metric, **options)

    @cached_property
    def consumers(self) -> Consumers:
        from .consume import Consumers

        return Consumers(self)

    @cached_property
    def alerts(self) -> Alerts:
        from .alert import Alerts

        return Alerts(self)

    def now(self) -> int:
        """Microseconds since 1970 by the business's clock."""
        return self.clock.now()

    def unit(self) -> UnitOfWork | None:
        """The open `biz.do` of this thread or task on this store."""
        return current(self.log)

    def stored_at(self, position: int) -> Stored | None:
        """The fact at a position, from the log or the segments; None if it was erased."""
        found = self.log.at([position]) or self.segments.at([position])
        return found[0] if found else None

    def stored(self, positions: list[int]) -> list[Stored]:
        """The facts at some positions, in the order asked for; erased ones are left out."""
        sealed = self.segments.catalog().sealed_to
        rows = self.log.at([p for p in positions if p > sealed])
        rows += self.segments.at([p for p in positions if p <= sealed])
        found = {row.position: row for row in rows}
        missing = [p for p in positions if p not in found]
        # Sealed in between.
        found |= {row.position: row for row in (self.segments.at(missing) if missing else [])}
        return [found[p] for p in positions if p in found]

    def position_of(self, id: str) -> int | None:
        """The position of a record's id, None if there is none."""
        return self.log.position_of(id)

    @property
    def log_readonly(self) -> bool:
        """Whether the disk lets nobody write."""
        return bool(getattr(self.log, "readonly", False))

    def _written(self, count: int) -> None:
        self._since_upkeep += count
        if self._since_upkeep >= 5_000:
            self._since_upkeep = 0
            if self.segments.due():
                self.upkeep()

    def upkeep(self) -> None:
        """Seal what is due: in the background where there is a worker, else here and now."""
        if self.worker:
            self.consumers.upkeep()
        elif self._upkeep_lock.acquire(blocking=False):
            try:
                self.segments.seal()
                self.segments.merge()
            finally:
                self._upkeep_lock.release()

    def close(self) -> None:
        """Stop the worker, leave everything committed. Twice is fine."""
        if self.closed:
            return
        if "consumers" in self.__dict__:
            self.consumers.close()
        try:
            for last in self.closing:
                last()
        finally:
            self.closed = True
            if "engine" in self.__dict__:
                self.engine.close()
            self.log.close()
            if self.temporary:
                shutil.rmtree(self.root, ignore_errors=True)

    def __repr__(self) -> str:
        return f"Store({self.shown!r})"

    def __getstate__(self) -> Any:
        raise TypeError("a store can't be pickled: open it again in the other process")
