"""Which alerts there are. State spaces: "define:alert", "alert" (key = name, then the tags: where each set is),
"alert-due" (what is to be told), "alert-samples"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ..awaited import DONE, Done
from ..errors import NotFound
from ..query import Lazy
from .rule import STATES, Status

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Alert", "AlertInfo", "Alerts"]


@dataclass(frozen=True, slots=True)
class AlertInfo:
    """One alert in a list."""

    name: str
    metric: str
    state: str
    enabled: bool


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

    def enable(self) -> Done:
        """Watch again. Raises NotFound once it is deleted."""
        self._alerts._switch(self.name, True)
        return DONE

    def disable(self) -> Done:
        """Stop watching; its state is forgotten."""
        self._alerts._switch(self.name, False)
        return DONE

    def delete(self) -> Done:
        """Remove it."""
        self._alerts._delete(self.name)
        return DONE

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

    def defined(self, name: str) -> int:
        """When it was defined, in microseconds; 0 of one that an earlier version defined."""
        return self._kept(name).get("defined", 0)

    def enabled(self, name: str) -> bool:
        kept = self._store.log.cached("define:alert").get(name)
        return kept is not None and orjson.loads(kept)["enabled"]
