"""`Business`: the one object. Wiring only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import when
from .clock import Clock
from .errors import InvalidName
from .locate import is_url
from .store import Store

if TYPE_CHECKING:
    from .alert import Alerts
    from .consume.dead import DeadLetters
    from .data import Data
    from .do import Do
    from .entity import Entities, Projections
    from .experiment import Experiments
    from .goal import Goals
    from .measure import Measure
    from .notify import Notifiers
    from .on import On
    from .people import Quota
    from .plan.aggregation import Aggregation
    from .query import Lazy
    from .schedule import Every
    from .stream import Streams
    from .track import Track
    from .view import Views

__all__ = ["Business"]


class Business:
    """A business and all that is known about it, kept in one directory or one database.

    Args:
        directory: where it is kept; created on first use. ":memory:" keeps nothing.
            "postgresql://user@host/database" keeps it in PostgreSQL, for several machines.
            None: $BIZCODE_URL, else ./.bizcode.
        tenant: keeps this tenant's data apart from all others'.
        timezone: IANA name for naive instants, calendar periods and schedules; kept once given. Default UTC.
        clock: where now comes from, for example ManualClock("2024-01-01").
        durability: "commit" (a killed process loses nothing), "disk" (nor does a power cut),
            "buffered" (returns at once, commits in groups).
        identity: the properties that name a record's user, the first present counts; kept once given.
        worker: False starts no background worker; `drain()` then does what is due.
        segments: where the sealed history lies: "s3://bucket/prefix", or "file:///a/directory" that all
            machines see; kept once given. Default: beside the log; of a store in PostgreSQL nothing is sealed without.
        engine: who answers questions: None the engine inside, "spark" or "spark://host:7077", "sc://host:15002",
            "local[2]" Spark SQL over the same segments, and Spark then keeps the windows of streams. Needs
            `pip install bizcode[spark]`.
    Raises:
        StorageError: the directory can't be used. InvalidName: a blank tenant. InvalidTime: unknown timezone.

    >>> with Business(":memory:") as biz:
    ...     e = biz.track.Signup(user_id="u1", plan="pro")
    ...     biz.track.Signup.count().run()
    1
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
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
        if directory is None:
            directory = os.environ.get("BIZCODE_URL") or ".bizcode"
        self.store = Store(
            directory if directory == ":memory:" or is_url(directory) else Path(directory),
            tenant=tenant,
            timezone=timezone,
            clock=clock,
            durability=durability,
            identity=identity,
            worker=worker,
            segments=segments,
            engine=engine,
        )
        self.store.writer.guards.append(_quota_guard(self.store))
        self.store.writer.guards.append(_experiment_guard(self.store))
        self.store.erasing.append(partial(_rollups_erase, self.store))
        self.store.erasing.append(partial(_views_erase, self.store))
        if self.store.log.cached("define:rollup") and not self.store.log_readonly:
            from .measure.rollup import resume

            resume(self.store)
        self.store.awaken["outbox"] = lambda: self.notifiers
        self.store.writer.attribute = lambda *given: self.experiment.attribute(*given)

    # the doors

    @cached_property
    def track(self) -> Track:
        """What are users doing?"""
        from .track import Track

        return Track(self.store)

    @cached_property
    def measure(self) -> Measure:
        """How are we performing?"""
        from .measure import Measure

        return Measure(self.store)

    @cached_property
    def experiment(self) -> Experiments:
        """Is this working?"""
        from .experiment import Experiments

        return Experiments(self.store)

    # time

    def now(self) -> datetime:
        """The present instant by the business's clock, aware, in its timezone."""
        return when.to_datetime(self.store.now(), self.store.tz)

    @property
    def timezone(self) -> str:
        """The IANA name of the business's timezone."""
        return self.store.timezone

    @property
    def clock(self) -> Clock:
        return self.store.clock

    # people and their records

    def identify(self, alias: str, user: str) -> Any:
        """Merge two ids: every analysis, past events included, counts them as one, under the second's name."""
        from .people import identify

        return identify(self.store, alias, user)

    def unidentify(self, alias: str) -> Any:
        """Undo the merges of an id. Raises NotFound where there is none."""
        from .people import unidentify

        return unidentify(self.store, alias)

    def retract(self, record_id: str) -> Any:
        """Take a tracked event or measurement back: it is gone from every query, view and rollup from now on.
        Raises NotFound for an unknown id, InvalidQuery for an entity's event."""
        from .people import retract

        return retract(self.store, record_id)

    def forget(self, user: str) -> int:
        """Erase a user's data for good, every merged id's too; how many records there were."""
        from .forget import forget

        return forget(self.store, user)

    @cached_property
    def quota(self) -> Quota:
        """`quota.set(events_per_day=, bytes=)`; what would pass it raises QuotaExceeded."""
        from .people import Quota

        return Quota(self.store)

    # in, out, and operation

    def sql(self, query: str, *parameters: Any) -> Lazy[Any]:
        """Ask in SQL, read-only, over `events`, `measures`, `entity_events`. Values as $1, $2, ..."""
        from .sql import sql

        return sql(self.store, query, parameters)

    def load(self, path: str | os.PathLike[str], **options: Any) -> Any:
        """Load CSV, JSONL or Parquet; see `bizcode.transfer.load`."""
        from .transfer import load

        return load(self.store, path, **options)

    def export(self, path: str | os.PathLike[str], **options: Any) -> Any:
        """Write records as Parquet, CSV or JSONL; see `bizcode.export.export`."""
        from .export import export

        return export(self.store, path, **options)

    def compact(self) -> Any:
        """Seal the tail and merge the segments."""
        return self.store.segments.compact()

    def doctor(self, mend: bool = False) -> Any:
        """Check every invariant of the store; with mend, repair what can be."""
        return self.store.segments.doctor(mend=mend)

    def flush(self) -> None:
        """Wait until every buffered write is committed."""
        self.store.log.flush()

    # what reacts

    def drain(self) -> None:
        """Do all that is due (handlers, views, alerts, schedules, ...), in this thread, and return when idle."""
        self.store.consumers.drain()

    def run(self) -> None:
        """Run the worker in the foreground until SIGTERM or SIGINT."""
        self.store.consumers.run()

    @property
    def dead_letters(self) -> DeadLetters:
        """Records that a handler could not take: `list()`, `retry(id)`, `discard(id)`."""
        return self.store.consumers.dead_letters

    @cached_property
    def on(self) -> On:
        """`@biz.on.Customer.signup`: call a function with each record of a type."""
        from .on import On

        return On(self.store)

    @cached_property
    def do(self) -> Do:
        """One transaction: `with biz.do():`, `biz.do.run(fn)`, `@biz.do`."""
        from .do import Do

        return Do(self.store)

    @cached_property
    def every(self) -> Every:
        """Jobs by the clock: `@biz.every.hour`, `@biz.every.day.at("9am")`, `@biz.every("15m")`."""
        from .schedule import Every

        return Every(self.store, self)

    @cached_property
    def data(self) -> Data:
        """Values under keys, with an expiry, watched by anyone."""
        from .data import Data

        return Data(self.store)

    @cached_property
    def notifiers(self) -> Notifiers:
        """`biz.notifiers.add("Slack", "ops", url)` sets where `biz.Slack("ops").post(...)` goes."""
        from .notify import Notifiers

        return Notifiers(self.store)

    @cached_property
    def goal(self) -> Goals:
        """Are we on track? `define`, `biz.goal("x").progress()`, `all().progress()`."""
        from .goal import Goals

        return Goals(self.store)

    @cached_property
    def stream(self) -> Streams:
        """React to what happens, in event time: `biz.stream.Order.created.filter(...)`."""
        from .stream import Streams

        return Streams(self.store, self, self.retract)

    @cached_property
    def view(self) -> Views:
        """The current state of things: `define`, `biz.view.leaderboard.get()`."""
        from .view import Views

        return Views(self.store)

    @property
    def alerts(self) -> Alerts:
        """Every alert: `list()`, `get(name)`."""
        return self.store.alerts

    def standup(self) -> Lazy[str]:
        """The morning report in Markdown: goals, experiments, alerts, what moved."""
        from .standup import standup

        return standup(self)

    # entities

    @cached_property
    def _entities(self) -> Entities:
        from .entity import Entities

        return Entities(self.store, self)

    def aggregate(self, name: str, initial: Any = None, reduce: Any = None, **options: Any) -> Any:
        """Define how a type's events become its state, as a class decorator or by a mapping of reducers;
        see `bizcode.entity.Aggregates.define`."""
        if isinstance(name, str) and self._is_notifier(name):
            raise InvalidName(f"{name!r} is a kind of notifier here: an aggregate needs another name")
        return self._entities.aggregates.define(name, initial, reduce, **options)

    @cached_property
    def projection(self) -> Projections:
        """`@biz.projection(name, on=["Order.*"])` defines one, `biz.projection(name)` reads it."""
        from .entity import Projections

        return Projections(self.store)

    # parts of questions

    def step(self, event: str) -> Any:
        """A step of a funnel or an anchor of a cohort: `biz.step("PageView").where(path="/pricing")`."""
        from .track.step import step

        return step(self.store, event)

    def _aggregation(self, operation: str, field: Any = None, argument: Any = None) -> Aggregation:
        from .plan.aggregation import aggregation

        return aggregation(operation, field, argument)

    def count(self) -> Aggregation:
        """For views and streams: how many elements."""
        return self._aggregation("count")

    def sum(self, field: str) -> Aggregation:
        """For views and streams: the sum of a field; 0 if there is none."""
        return self._aggregation("sum", field)

    def avg(self, field: str) -> Aggregation:
        """For views and streams: the mean of a field."""
        return self._aggregation("avg", field)

    def min(self, field: str) -> Aggregation:
        """For views and streams: the smallest value of a field."""
        return self._aggregation("min", field)

    def max(self, field: str) -> Aggregation:
        """For views and streams: the largest value of a field."""
        return self._aggregation("max", field)

    def first(self, field: str) -> Aggregation:
        """For views and streams: the value of the earliest element, by event time."""
        return self._aggregation("first", field)

    def last(self, field: str) -> Aggregation:
        """For views and streams: the value of the latest element, by event time."""
        return self._aggregation("last", field)

    def collect(self, field: str | None = None) -> Aggregation:
        """For views and streams: a list of a field's values, or of the elements."""
        return self._aggregation("collect", field)

    def distinct(self, field: str) -> Aggregation:
        """For views and streams: how many distinct values a field has."""
        return self._aggregation("distinct", field)

    def percentile(self, p: float, field: str) -> Aggregation:
        """For views and streams: the p-th percentile of a field, interpolated linearly."""
        return self._aggregation("percentile", field, p)

    def stddev(self, field: str) -> Aggregation:
        """For views and streams: the sample's standard deviation of a field."""
        return self._aggregation("stddev", field)

    # the end

    def close(self) -> None:
        """Leave everything committed and close. Twice is fine."""
        self.store.close()

    def __enter__(self) -> Business:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Business:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not name[:1].isupper():
            known = ", ".join(n for n in dir(type(self)) if not n.startswith("_"))
            raise AttributeError(
                f"a Business has no {name!r}; it has {known}, and entity types under capitalised names"
            )
        if self._is_notifier(name):
            return partial(self.notifiers.notifier, name)
        return self._entities.type(name)

    def _is_notifier(self, name: str) -> bool:
        from .notify import KINDS

        return name in KINDS or any(
            key.partition("/")[0] == name for key in self.store.log.cached("notifier")
        )

    def __repr__(self) -> str:
        tenant = f", tenant={self.store.tenant!r}" if self.store.tenant is not None else ""
        return f"Business({self.store.shown!r}{tenant})"


def _quota_guard(store: Store) -> Any:
    """The check of the quota, imported when a quota is first met: opening a store stays light."""

    def check(tx: Any, drafts: Any) -> Any:
        if "quota" not in tx.cached("settings"):
            return drafts
        from .people import guard

        return guard(store)(tx, drafts)

    return check


def _experiment_guard(store: Store) -> Any:
    """What experiments look at in every append, imported when there is an experiment."""
    guard: Any = None

    def check(tx: Any, drafts: Any) -> Any:
        nonlocal guard
        if "experiments" not in tx.cached("settings"):
            return drafts
        if guard is None:
            from .experiment.exposure import Guard

            guard = Guard(store)
        return guard(tx, drafts)

    return check


def _rollups_erase(store: Store, positions: Any) -> Any:
    """What rollups do with samples that are being erased; imported when there is a rollup."""
    if not store.log.cached("define:rollup"):
        return None
    from .measure.rollup import erasing

    return erasing(store, positions)


def _views_erase(store: Store, positions: Any) -> Any:
    """What is kept of views goes when something is erased."""
    from .view.kept import erasing

    return erasing(store, positions)
