"""Alerts on a query: it is asked when something was recorded, and each minute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import when
from ..errors import InvalidQuery, StorageError
from ..plan.select import Aggregate
from ..query.reach import describe
from .rule import Status
from .watch import Watcher

if TYPE_CHECKING:
    from ..log import Transaction

__all__ = ["Asked", "QueryWatcher", "asked_by"]

CADENCE = 60_000_000
GONE = object()
"""The key of a group that is not among the answers any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an alert asks.

    `count` is how many records the query looks at, of a ratio those below; `tags` names the parts of a group's key;
    `empty` is the answer for a group that is not among the answers any more, None where it has none.
    """

    query: Any
    count: Any
    tags: tuple[str, ...]
    empty: int | None

    @property
    def text(self) -> str:
        """What tells it from another question."""
        parts = (self.query,) if not hasattr(self.query, "bottom") else (self.query.top, self.query.bottom)
        return describe(tuple(part.plan for part in parts))


def asked_by(query: Any, tags: tuple[str, ...], silence: bool) -> Asked:
    """How a query is asked for an alert by tags. Raises InvalidQuery where its answer is no number or one per group."""
    base = getattr(query, "bottom", query)
    plan = getattr(base, "plan", None)
    if not isinstance(plan, Aggregate):
        raise InvalidQuery(f"an alert needs a query of numbers, like .count(), not {type(query).__name__}")
    if plan.vs is not None:
        raise InvalidQuery("an alert needs a query of numbers: vs() gives a Comparison, so leave it out")
    if tags and not plan.by:
        query = query.by(*tags)
        base = getattr(query, "bottom", query)
        plan = base.plan
    names = tags or tuple(dimension.name for dimension in plan.by)
    if len(names) != len(plan.by):
        raise InvalidQuery(
            f"by= names {len(names)} tags, {', '.join(names)}; the query is grouped by {len(plan.by)}"
        )
    if silence and plan.operation == "current":
        raise InvalidQuery("absent= on a metric's current value is .alert(absent=) on the metric itself")
    total = query is base and plan.operation in ("count", "unique", "sum")
    counted = replace(plan, operation="count", field=None, argument=None, limit=None, offset=0)
    return Asked(query, replace(base, plan=counted), names, 0 if total else None)


class QueryWatcher(Watcher):
    """Asks a query when something was recorded, and each minute."""

    def __init__(self, *given: Any, asked: Asked) -> None:
        super().__init__(*given)
        self._asked = asked
        self._head = -1

    def _extra_due(self) -> int | None:
        if self._looked is None or self._store.log.head() != self._head:
            return self._store.now()
        return self._looked + CADENCE

    def _look(self, now: int) -> None:
        self._head = self._store.log.head()  # what is written while it is asked is looked at again
        self._looked = now
        try:
            self._ask(now)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's condition; other alerts go on
            with self._store.log.transaction() as tx:
                self._failed(tx, error, None, {})  # one for the alert, however often it fails

    def _ask(self, now: int) -> None:
        asked, rule = self._asked, self._rule
        found = _groups(asked.query.run())
        enough = _groups(asked.count.run()) if rule.min_samples else {}
        heard = _groups(self._since(now).run()) if self._may_be_silent(now) else None
        with self._store.log.transaction() as tx:
            known = self._known(tx)
            sets: dict[str, tuple[dict[str, Any], Any]] = {
                place: (status.tags, GONE) for place, status in known.items()
            }
            for key in found:
                tags = self._tags(key)
                sets[self._key(tags)] = (tags, key)
            for place, (tags, key) in sets.items():
                value = found.get(key, asked.empty)
                if rule.min_samples and (enough.get(key) or 0) < rule.min_samples:
                    if place in known and known[place].state == "firing":
                        continue  # too little to say that it is over
                    value = None
                self.move(tx, tags, value, now, heard is not None and not heard.get(key))

    def _since(self, now: int) -> Any:
        """How many records there were in the time after which silence counts."""
        return self._asked.count.since(when.to_datetime(now - (self._rule.absent or 0) + 1))

    def _may_be_silent(self, now: int) -> bool:
        absent = self._rule.absent
        return absent is not None and now - self._alerts.defined(self._alert) >= absent

    def _known(self, tx: Transaction) -> dict[str, Status]:
        return {key: Status.parse(kept) for key, kept in tx.scan("alert", f"{self._alert}\0")}

    def _tags(self, key: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self._asked.tags, (_tag(part) for part in key), strict=True))


def _groups(answer: Any) -> dict[tuple[Any, ...], Any]:
    if not isinstance(answer, Mapping):
        return {(): answer}
    return {key if isinstance(key, tuple) else (key,): value for key, value in answer.items()}


def _tag(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
