"""Told when a goal's status changes. State space "goal-status": the status last seen, per alert."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from ..consume.consumer import call
from ..consume.dead import bury
from ..errors import StorageError
from ..unit import UnitOfWork

if TYPE_CHECKING:
    from .door import Goals
    from .progress import Progress

__all__ = ["GoalAlert"]

CADENCE = 60_000_000
RETRIES = 3


class GoalAlert:
    """Looks when something was recorded, and each minute: projections move with the clock alone."""

    def __init__(self, goals: Goals, goal: str, status: str, notify: Callable[[Progress], Any]) -> None:
        self.name = f"goal:{goal}:{status}"
        self._goals = goals
        self._goal = goal
        self._status = status
        self._notify = notify
        self._looked: tuple[int, int] | None = None
        self._kept = False

    def due(self) -> int | None:
        store = self._goals._store
        now, head = store.now(), store.log.head()
        if self._looked is None or self._looked[1] != head:
            return now
        if self._kept and store.log.get("goal-status", f"{self._goal}:{self._status}") is None:
            return now  # a dead letter is to be tried again
        return self._looked[0] + CADENCE

    def tick(self, now: int) -> None:
        store = self._goals._store
        head = store.log.head()
        kept = store.log.get("define:goal", self._goal)
        if kept is None or orjson.loads(kept)["state"] != "active" or self._goals._known(self._goal) is None:
            self._looked, self._kept = (now, head), False
            return
        try:
            progress = self._goals._progress(self._goal)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a function in its target; other work goes on
            self._looked, self._kept = (now, head), False
            with store.log.transaction() as tx:
                told = {"goal": self._goal}
                bury(
                    tx, self.name, None, error, 1, store.now(), told, "look", ("goal-look", self._goal, None)
                )
            return
        key = f"{self._goal}:{self._status}"
        seen = store.log.get("goal-status", key)
        if seen is None or seen.decode() != progress.status:
            self._changed(key, progress)
        self._looked, self._kept = (now, head), True

    def _changed(self, key: str, progress: Progress) -> None:
        store = self._goals._store
        error: Exception | None = None
        for _ in range(RETRIES + 1):
            unit = UnitOfWork(store.log)
            token = unit.enter()
            try:
                if progress.status == self._status:
                    call(self._notify, progress)
            except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                error = raised
                unit.discard()
                continue
            finally:
                unit.leave(token)
            unit.put("goal-status", key, progress.status.encode())
            unit.commit()
            return
        assert error is not None
        with store.log.transaction() as tx:
            told = {"goal": self._goal, "status": progress.status}
            again = ("goal-status", key, None)
            bury(tx, self.name, None, error, RETRIES + 1, store.now(), told, progress.status, again)
            tx.put("goal-status", key, progress.status.encode())
