"""What ends an experiment by itself: its duration, or enough users where it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plan.sql import Parameters
from . import scan
from .lifecycle import change

if TYPE_CHECKING:
    from .book import Entry
    from .door import Experiments

__all__ = ["Watch"]

EVERY = 60_000_000
"""Microseconds between two counts of the users of experiments that end when they have enough."""


class Watch:
    """Ends experiments that are due, once among all processes, says so in a record "experiment-status" and
    to `notify`. By the clock an experiment has ended in any case, even if no worker runs."""

    name = "experiments"

    def __init__(self, door: Experiments) -> None:
        self._door = door
        self._counted: int | None = None

    def register(self) -> None:
        """Let the store's worker and `drain()` call `tick` when it is due."""
        self._door.store.consumers.tickers(self)

    def due(self) -> int | None:
        """When something is to be looked at next, in microseconds; None for never."""
        found = [self._due(entry) for entry in self._door.book.entries().values()]
        return min((at for at in found if at is not None), default=None)

    def _due(self, entry: Entry) -> int | None:
        if entry.state.status not in ("running", "paused"):
            return None
        if entry.ends is not None:
            return entry.ends
        if entry.definition.min_sample_size is None:
            return None
        return self._door.store.now() if self._counted is None else self._counted + EVERY

    def tick(self, now: int) -> None:
        """End what is due by now."""
        for name, entry in list(self._door.book.entries().items()):
            at = self._due(entry)
            if at is None or at > now:
                continue
            if entry.ends is not None:
                self._end(name, "duration")
            elif self._enough(entry, now):
                self._end(name, "min_sample_size")
        self._counted = now

    def _enough(self, entry: Entry, now: int) -> bool:
        needed = entry.definition.min_sample_size or 0
        with self._door.store.engine.session() as session:
            among = scan.exposed(session, entry.definition.name, now, None)
            sql = f"SELECT variant, count(*) FROM {among.table} WHERE single GROUP BY variant"
            users = dict(session.fetch(sql, Parameters()))
        return all(users.get(variant, 0) >= needed for variant in entry.definition.variants)

    def _end(self, name: str, reason: str) -> None:
        if not change(self._door.store, name, "stopped", reason=reason):
            return
        notify = self._door.notify.get(name)
        if notify is not None:
            notify(self._door(name).results().run())
