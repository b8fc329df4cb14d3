"""Alerts at work in this process: what they have in common, and the one that follows a metric's samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..consume.consumer import call
from ..consume.dead import bury
from ..errors import StorageError
from ..plan.condition import Condition
from ..record import Stored, record_of
from ..unit import UnitOfWork
from .rule import AlertEvent, Rule, Status, advance

if TYPE_CHECKING:
    from ..log import Transaction
    from .alerts import Alerts

__all__ = ["MetricWatcher", "Watcher"]

RETRIES = 3


class Watcher:
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

    def move(self, tx: Transaction, tags: dict[str, Any], value: Any, at: int, silent: bool = False) -> None:
        """Take a value of a set of tags at an instant, and keep what follows from it. `silent`: nothing was
        recorded for so long that `absent` holds."""
        key = self._key(tags)
        kept = tx.get("alert", key)
        status = Status(tags=tags) if kept is None else Status.parse(kept)
        if status.at is not None and at < status.at:
            return  # an older sample says nothing of now
        told = []
        if status.at is not None and at > status.at:
            # Up to the sample, not at it: at its instant the new value holds.
            told += [(*event, status.value) for event in advance(self._rule, status, at - 1)]
        status.value, status.at, status.silent = value, at, silent
        told += [(*event, value) for event in advance(self._rule, status, at)]
        self._keep(tx, key, status, told)

    def _keep(self, tx: Transaction, key: str, status: Status, told: list[Any]) -> None:
        tx.put("alert", key, status.dump())
        for what, at, since, value in told:
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

    def _failed(self, tx: Transaction, error: Exception, position: int | None, data: dict[str, Any]) -> None:
        """A dead letter of a condition that raised; a retry ends it: what it was about is past."""
        due = {"alert": self._alert, "metric": self._metric, **data}
        key = "look" if position is None else str(position)
        bury(
            tx, self.name, position, error, 1, self._store.now(), due, key, ("alert-look", self._alert, None)
        )

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
                    bury(
                        tx,
                        self.name,
                        None,
                        error,
                        RETRIES + 1,
                        store.now(),
                        due,
                        key,
                        ("alert-due", key, due),
                    )
                    tx.delete("alert-due", key)


class MetricWatcher(Watcher):
    """Follows a metric's samples."""

    def __init__(self, *given: Any, where: Condition) -> None:
        super().__init__(*given)
        self._where = where

    def batch(self, tx: Transaction, rows: Sequence[Stored]) -> None:
        if not self._alerts.enabled(self._alert):
            return
        store_id = self._store.log.store_id
        for row in rows:
            try:
                self._take(tx, row, record_of(row, store_id))
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - a user's condition; the next sample is looked at
                self._failed(tx, error, row.position, {"value": row.value})

    def _take(self, tx: Transaction, row: Stored, record: Any) -> None:
        if not self._where.matches(record):
            return
        tags = {tag: record.data.get(tag) for tag in self._by}
        if self._rule.min_samples and not self._enough(tx, tags, row.time):
            return
        self.move(tx, tags, row.value, row.time)

    def _enough(self, tx: Transaction, tags: dict[str, Any], at: int) -> bool:
        """So many samples in the time that the condition looks at: `for_`, or all there were."""
        key = f"{self._alert}\0{orjson.dumps(list(tags.values())).decode()}"
        times = orjson.loads(tx.get("alert-samples", key) or b"[]")
        since = at - self._rule.for_ if self._rule.for_ else None
        times = [time for time in [*times, at] if since is None or time >= since][-self._rule.min_samples :]
        tx.put("alert-samples", key, orjson.dumps(times))
        return len(times) >= self._rule.min_samples
