"""Who waits for news of the log, and how it reaches them."""

from __future__ import annotations

import time
from _thread import LockType
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from .bells import new_bell, ring

__all__ = ["Changes"]

POLL = 0.02
"""Seconds between two looks for commits of other processes, while somebody waits."""

PATIENCE = 1.0
"""Seconds until one who doesn't look looks all the same: the one who does may have been interrupted."""


class Changes:
    """Sleepers of this process. The first of them looks for the commits of other processes, for all.

    Each sleeps at a bell of its own. There is no lock around the line of them, so an interrupt can't
    leave one held.
    """

    def __init__(self, number: Callable[[], int], poll: float = POLL) -> None:
        self._number = number
        self._poll = poll
        self._line: deque[LockType] = deque()
        self._wakes = 0

    def tell(self) -> None:
        """Something was committed by this process."""
        if self._line:
            for bell in list(self._line):
                ring(bell)

    def wake(self) -> None:
        """Send everybody home."""
        self._wakes += 1
        self.tell()

    def wait(self, seen: int, timeout: float | None) -> bool:
        """Sleep until the number differs (True), or until the timeout in seconds or a wake (False)."""
        until = None if timeout is None else time.monotonic() + timeout
        wakes = self._wakes
        bell = new_bell()
        try:
            self._line.append(bell)
            while True:
                if self._number() != seen:
                    self.tell()
                    return True
                left = None if until is None else until - time.monotonic()
                if self._wakes != wakes or (left is not None and left <= 0):
                    return False
                pause = self._poll if self._line[0] is bell else PATIENCE
                bell.acquire(timeout=pause if left is None else min(pause, left))
        finally:
            with suppress(ValueError):
                self._line.remove(bell)
            for first in list(self._line)[:1]:
                ring(first)  # it is the one who looks now
