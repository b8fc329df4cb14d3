"""Alerts: a condition on a metric or on any query, told once per incident.

State spaces: "define:alert", "alert" (key = name, then the tags: state, since when, told when). A state machine
per set of tags moves with each sample, by its timestamp, and with the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from . import values, when
from .consume import Pattern
from .consume.consumer import call
from .consume.dead import bury
from .errors import AlreadyExists, InvalidQuery, NotFound
from .plan.condition import Condition
from .query import Lazy
from .query.base import Query
from .query.reach import describe
from .record import EVENT, MEASURE, Row, Stored, record_of
from .unit import UnitOfWork

if TYPE_CHECKING:
    from .log import Transaction
    from .store import Store

__all__ = ["Alert", "AlertEvent", "AlertInfo", "Alerts", "define"]

CADENCE = 60_000_000
RETRIES = 3
STATES = ("ok", "pending", "firing")


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """What a notification gets: `since` is when the condition began to hold, `tags` of the set it is about."""

    alert: str
    metric: str
    value: Any
    since: datetime
    tags: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AlertInfo:
    """One alert in a list."""

    name: str
    metric: str
    state: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """When it fires and when it is over. Times in microseconds."""

    condition: Callable[[Any], bool]
    cleared: Callable[[Any], bool]
    for_: int = 0
    keep: int = 0
    every: int | None = None
    absent: int | None = None
    min_samples: int = 0


@dataclass(slots=True)
class Status:
    """Where one set of tags is."""

    state: str = "ok"
    value: Any = None
    at: int | None = None
    since: int | None = None
    fired: int | None = None
    told: int | None = None
    clearing: int | None = None
    tags: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def parse(kept: bytes) -> Status:
        return Status(**orjson.loads(kept))


def advance(rule: Rule, status: Status, now: int) -> list[tuple[str, int]]:
    """Move a status to an instant, with its value as it is; what happened: ("fire" | "resolve", when)."""
    told: list[tuple[str, int]] = []
    absent = rule.absent is not None and status.at is not None and now - status.at >= rule.absent
    holds = absent or (status.value is not None and rule.condition(status.value))
    if status.state != "firing":
        if not holds:
            status.state, status.since = "ok", None
            return told
        if status.since is None:
            status.since = (
                status.at + rule.absent if absent and status.at is not None and rule.absent else now
            )
        status.state = "pending"
        if now - status.since >= rule.for_:
            status.state, status.fired, status.told = "firing", status.since + rule.for_, now
            status.clearing = None
            told.append(("fire", status.fired))
        return told
    over = not absent and status.value is not None and rule.cleared(status.value)
    if not over:
        status.clearing = None
        if rule.every is not None and status.told is not None and now - status.told >= rule.every:
            status.told = now
            told.append(("fire", now))
        return told
    if status.clearing is None:
        status.clearing = now
    if now - status.clearing >= rule.keep:
        status.state, status.clearing, status.told = "ok", None, None
        told.append(("resolve", now))
        status.since = None
    return told


class Alert:
    """A defined alert: `state` is "ok", "pending" or "firing" (with `by`, the worst), `states` maps tags to each."""

    def __init__(self, alerts: Alerts, name: str) -> None:
        self._alerts = alerts
        self.name = name

    @property
    def states(self) -> dict[Any, str]:
        """The state of each set of tags: the value of the one tag, or a tuple."""
        found = {}
        for _, kept in self._alerts._store.log.scan("alert", f"{self.name}\0"):
            status = Status.parse(kept)
            values_ = tuple(status.tags.values())
            found[values_[0] if len(values_) == 1 else values_] = status.state
        return found

    @property
    def state(self) -> str:
        return max(self.states.values(), key=STATES.index, default="ok")

    @property
    def enabled(self) -> bool:
        return self._alerts._kept(self.name)["enabled"]

    def enable(self) -> None:
        """Watch again. Raises NotFound once it is deleted."""
        self._alerts._switch(self.name, True)

    def disable(self) -> None:
        """Stop watching; its state is forgotten."""
        self._alerts._switch(self.name, False)

    def delete(self) -> None:
        """Remove it."""
        self._alerts._delete(self.name)

    def __await__(self):
        return self
        yield

    def __repr__(self) -> str:
        return f"Alert({self.name!r}, state={self.state!r})"


class Alerts:
    """All alerts of a store; `biz.alerts.list()`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers: dict[str, Any] = {}

    def list(self) -> Lazy[list[AlertInfo]]:
        """Every alert with its state, by name."""
        return Lazy(self._list, "alerts")

    def _list(self) -> list[AlertInfo]:
        found = []
        for name, kept in self._store.log.scan("define:alert"):
            made = orjson.loads(kept)
            found.append(AlertInfo(name, made["metric"], Alert(self, name).state, made["enabled"]))
        return found

    def get(self, name: str) -> Alert:
        """The alert of that name. Raises NotFound."""
        self._kept(name)
        return Alert(self, name)

    def _kept(self, name: str) -> dict[str, Any]:
        kept = self._store.log.get("define:alert", name)
        if kept is None:
            raise NotFound(f"there is no alert {name!r}")
        return orjson.loads(kept)

    def _switch(self, name: str, enabled: bool) -> None:
        made = self._kept(name)
        with self._store.log.transaction() as tx:
            tx.put("define:alert", name, orjson.dumps({**made, "enabled": enabled}))
            if not enabled:
                tx.clear("alert", f"{name}\0")

    def _delete(self, name: str) -> None:
        self._kept(name)
        with self._store.log.transaction() as tx:
            tx.delete("define:alert", name)
            tx.clear("alert", f"{name}\0")
            tx.clear("alert-due", f"{name}\0")
            tx.delete("consumer", f"alert:{name}")
        self._store.consumers.unregister(f"alert:{name}")
        self._store.consumers.remove_ticker(f"alert:{name}")

    def enabled(self, name: str) -> bool:
        kept = self._store.log.cached("define:alert").get(name)
        return kept is not None and orjson.loads(kept)["enabled"]


class _Watcher:
    """One alert at work in this process."""

    def __init__(
        self,
        alerts: Alerts,
        name: str,
        rule: Rule,
        metric: str,
        by: tuple[str, ...],
        notify: Any,
        resolve: Any,
    ) -> None:
        self.name = f"alert:{name}"
        self._alerts = alerts
        self._store = alerts._store
        self._alert = name
        self._rule = rule
        self._metric = metric
        self._by = by
        self._notify = notify
        self._resolve = resolve
        self._looked: int | None = None

    # statuses

    def _key(self, tags: Mapping[str, Any]) -> str:
        return f"{self._alert}\0{orjson.dumps(list(tags.values())).decode()}"

    def move(
        self, tx: Transaction, tags: dict[str, Any], value: Any, at: int, now: int, seen: bool = True
    ) -> None:
        """Take a value of a set of tags at an instant, and keep what follows from it."""
        key = self._key(tags)
        kept = tx.get("alert", key)
        status = Status(tags=tags) if kept is None else Status.parse(kept)
        if status.at is not None and at < status.at:
            return  # an older sample says nothing of now
        told = []
        if status.at is not None and at > status.at:
            told += [(*event, status.value) for event in advance(self._rule, status, at)]
        if seen:
            status.value, status.at = value, at
        told += [(*event, value) for event in advance(self._rule, status, max(at, now if not seen else at))]
        self._keep(tx, key, status, told)

    def _keep(self, tx: Transaction, key: str, status: Status, told: list[Any]) -> None:
        tx.put("alert", key, status.dump())
        for what, at, value in told:
            since = status.since if status.since is not None else at
            due = {"what": what, "at": at, "value": value, "since": since, "tags": status.tags}
            tx.put(
                "alert-due", f"{self._alert}\0{at:020d}:{what}:{key.partition(chr(0))[2]}", orjson.dumps(due)
            )

    # the clock

    def due(self) -> int | None:
        store = self._store
        if not self._alerts.enabled(self._alert):
            return None
        if store.log.scan("alert-due", f"{self._alert}\0", limit=1):
            return store.now()
        dues = [
            at
            for at in (
                self._next(Status.parse(kept)) for _, kept in store.log.scan("alert", f"{self._alert}\0")
            )
            if at is not None
        ]
        extra = self._extra_due()
        return min([*dues, *([] if extra is None else [extra])], default=None)

    def _extra_due(self) -> int | None:
        return None

    def _next(self, status: Status) -> int | None:
        """When a status next changes by the clock alone."""
        found = []
        rule = self._rule
        if status.state == "pending" and status.since is not None:
            found.append(status.since + rule.for_)
        if status.state == "firing" and status.clearing is not None:
            found.append(status.clearing + rule.keep)
        if (
            status.state == "firing"
            and rule.every is not None
            and status.told is not None
            and status.clearing is None
        ):
            found.append(status.told + rule.every)
        if rule.absent is not None and status.at is not None and status.state == "ok":
            found.append(status.at + rule.absent)
        return min(found, default=None)

    def tick(self, now: int) -> None:
        self._look(now)
        with self._store.log.transaction() as tx:
            for key, kept in tx.scan("alert", f"{self._alert}\0"):
                status = Status.parse(kept)
                while (at := self._next(status)) is not None and at <= now:
                    before = status.dump()
                    told = [(*event, status.value) for event in advance(self._rule, status, at)]
                    self._keep(tx, key, status, told)
                    if status.dump() == before:
                        break
        self._deliver()

    def _look(self, now: int) -> None:
        self._looked = now

    def _deliver(self) -> None:
        store = self._store
        for key, kept in store.log.scan("alert-due", f"{self._alert}\0"):
            due = orjson.loads(kept)
            event = AlertEvent(
                self._alert, self._metric, due["value"], when.to_datetime(due["since"]), due["tags"]
            )
            function = self._notify if due["what"] == "fire" else self._resolve
            error: Exception | None = None
            for _ in range(RETRIES + 1):
                unit = UnitOfWork(store.log)
                token = unit.enter()
                try:
                    if function is not None:
                        call(function, event)
                except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                    error = raised
                    unit.discard()
                    continue
                finally:
                    unit.leave(token)
                unit.put("alert-due", key, None)
                unit.commit()
                error = None
                break
            if error is not None:
                with store.log.transaction() as tx:
                    bury(tx, self.name, None, error, RETRIES + 1, store.now(), due, key)
                    tx.delete("alert-due", key)


class _MetricWatcher(_Watcher):
    """Follows a metric's samples."""

    def __init__(self, *given: Any, where: Condition) -> None:
        super().__init__(*given)
        self._where = where

    def batch(self, tx: Transaction, rows: Sequence[Stored]) -> None:
        if not self._alerts.enabled(self._alert):
            return
        store_id = self._store.log.store_id
        for row in rows:
            record = record_of(row, store_id)
            tags = {tag: record.data.get(tag) for tag in self._by}
            if self._rule.min_samples and not self._enough(tx, tags, row.time):
                continue
            self.move(tx, tags, row.value, row.time, row.time)

    def _enough(self, tx: Transaction, tags: dict[str, Any], at: int) -> bool:
        """So many samples in the time that the condition looks at: `for_`, or all there were."""
        key = f"{self._alert}\0{orjson.dumps(list(tags.values())).decode()}"
        times = orjson.loads(tx.get("alert-samples", key) or b"[]")
        since = at - self._rule.for_ if self._rule.for_ else None
        times = [time for time in [*times, at] if since is None or time >= since][-self._rule.min_samples :]
        tx.put("alert-samples", key, orjson.dumps(times))
        return len(times) >= self._rule.min_samples


class _QueryWatcher(_Watcher):
    """Asks a query when something was recorded, and each minute."""

    def __init__(self, *given: Any, query: Any, count: Any) -> None:
        super().__init__(*given)
        self._query = query
        self._count = count
        self._head = -1

    def _extra_due(self) -> int | None:
        if self._looked is None or self._store.log.head() != self._head:
            return self._store.now()
        return self._looked + CADENCE

    def _look(self, now: int) -> None:
        found = self._query.run()
        if isinstance(found, Mapping):
            groups = {key if isinstance(key, tuple) else (key,): value for key, value in found.items()}
        else:
            groups = {(): found}
        enough = self._count is None or not self._rule.min_samples or self._count() >= self._rule.min_samples
        with self._store.log.transaction() as tx:
            for key, value in groups.items():
                names = self._by or tuple(f"group{n + 1}" if n else "group" for n in range(len(key)))
                tags = dict(zip(names, (_tag(part) for part in key), strict=False))
                self.move(tx, tags, value if enough else None, now, now)
        self._head = self._store.log.head()
        self._looked = now


def _tag(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _condition(condition: Any, above: Any, below: Any) -> tuple[Callable[[Any], bool], str]:
    given = [
        name
        for name, one in (("condition", condition), ("above", above), ("below", below))
        if one is not None
    ]
    if condition is not None and len(given) > 1:
        raise InvalidQuery("an alert takes condition=, or above= and below=")
    if isinstance(condition, Condition):
        return (lambda value: condition.matches(Row(value=value))), describe(condition)
    if condition is not None:
        if not callable(condition):
            raise InvalidQuery(
                f"condition= is a function of the value or an expression like this.value > 90, not {condition!r}"
            )
        return (lambda value: bool(condition(value))), describe(condition)
    for name, limit in (("above", above), ("below", below)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float))):
            raise InvalidQuery(f"{name}= takes a number, not {limit!r}")
    if not given:
        return (lambda _: False), ""

    def holds(value: Any) -> bool:
        return (above is not None and value > above) or (below is not None and value < below)

    return holds, " or ".join(
        f"{name} {limit:g}" for name, limit in (("above", above), ("below", below)) if limit is not None
    )


def define(
    store: Store,
    alerts: Alerts,
    source: Any,
    *,
    metric: str,
    name: str | None = None,
    condition: Any = None,
    above: float | None = None,
    below: float | None = None,
    for_: Any = None,
    notify: Callable[[AlertEvent], Any] | None = None,
    resolve: Callable[[AlertEvent], Any] | None = None,
    every: Any = None,
    by: Any = None,
    absent: Any = None,
    resolve_above: float | None = None,
    resolve_below: float | None = None,
    keep_firing_for: Any = None,
    min_samples: int = 0,
    since: Any = None,
) -> Alert:
    """Define an alert on a metric's samples (a Select) or on a query.

    Raises:
        InvalidQuery: no condition, or one that can't be used. AlreadyExists: another alert has that name.
        InvalidTime.
    """
    holds, text = _condition(condition, above, below)
    if not text and absent is None:
        raise InvalidQuery("an alert needs a condition: condition=, above=, below= or absent=")
    if isinstance(min_samples, bool) or not isinstance(min_samples, int) or min_samples < 0:
        raise InvalidQuery(f"min_samples= is a whole number of at least 0, not {min_samples!r}")

    def cleared(value: Any) -> bool:
        if resolve_below is None and resolve_above is None:
            return not holds(value)
        below_ = resolve_below is None or value < resolve_below
        above_ = resolve_above is None or value > resolve_above
        return below_ and above_

    def micros(value: Any) -> int | None:
        return None if value is None else when.exact(value)

    rule = Rule(
        holds,
        cleared,
        micros(for_) or 0,
        micros(keep_firing_for) or 0,
        micros(every),
        micros(absent),
        min_samples,
    )
    tags = tuple([by] if isinstance(by, str) else by or ())
    full = values.name(name, "an alert") if name is not None else f"{metric} {text or 'absent'}"
    made = {
        "metric": metric,
        "rule": [
            text,
            rule.for_,
            rule.keep,
            rule.every,
            rule.absent,
            min_samples,
            resolve_above,
            resolve_below,
        ],
        "by": tags,
        "source": describe(getattr(source, "plan", None) or source)
        if not isinstance(source, Query)
        else metric,
        "enabled": True,
    }
    with store.log.transaction() as tx:
        kept = tx.get("define:alert", full)
        if kept is None:
            tx.put("define:alert", full, orjson.dumps(made))
        else:
            known = orjson.loads(kept)
            if (
                known["metric"] != metric
                or known["rule"] != orjson.loads(orjson.dumps(made["rule"]))
                or tuple(known["by"]) != tags
            ):
                raise AlreadyExists(f"the alert {full!r} is defined otherwise already: delete it first")
    if isinstance(source, Query):
        watcher: Any = _QueryWatcher(
            alerts, full, rule, metric, tags, notify, resolve, query=source, count=_counter(source)
        )
    else:
        watcher = _MetricWatcher(alerts, full, rule, metric, tags, notify, resolve, where=source.where)
        store_id = store.log.store_id
        pattern = Pattern(
            frozenset((MEASURE,)),
            frozenset(source.names or ()),
            lambda row: source.where.matches(record_of(row, store_id)),
        )
        if rule.absent is not None and not tags:
            with store.log.transaction() as tx:
                key = watcher._key({})
                if tx.get("alert", key) is None:
                    tx.put("alert", key, Status(at=store.now()).dump())
        store.consumers.follow(f"alert:{full}", pattern, handler=watcher, since=since)
    store.consumers.tickers(watcher)
    return Alert(alerts, full)


def _counter(query: Any) -> Callable[[], int] | None:
    """How many records a query looks at: of a ratio those below."""
    base = getattr(query, "bottom", query)
    plan = getattr(base, "plan", None)
    if plan is None or getattr(plan, "select", None) is None or plan.select.kind not in (EVENT, MEASURE):
        return None
    from dataclasses import replace

    counted = replace(base, plan=replace(plan, operation="count", field=None, by=(), vs=None))
    return counted.run
