"""Who waits for news of the log, and how it reaches them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Changes"]

POLL = 0.02
"""Seconds between two looks for commits of other processes, while somebody waits."""


class Changes:
    """Sleepers of this process. One of them looks for the commits of other processes, for all."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._condition = threading.Condition()
        self._waiting = 0
        self._watched = False
        self._wakes = 0

    def tell(self) -> None:
        """Something was committed by this process."""
        if self._waiting:
            with self._condition:
                self._condition.notify_all()

    def wake(self) -> None:
        """Send everybody home."""
        with self._condition:
            self._wakes += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout: float | None) -> bool:
        """Sleep until the number differs (True), the timeout in seconds, or a wake (False)."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            wakes = self._wakes
            self._waiting += 1
            watching = False
            try:
                while True:
                    if self._number() != seen:
                        if watching:
                            self._condition.notify_all()
                        return True
                    left = None if until is None else until - time.monotonic()
                    if self._wakes != wakes or (left is not None and left <= 0):
                        return False
                    if not self._watched:
                        watching = self._watched = True
                    if watching:
                        left = POLL if left is None else min(POLL, left)
                    self._condition.wait(left)
            finally:
                self._waiting -= 1
                if watching:
                    self._watched = False
                    self._condition.notify_all()
