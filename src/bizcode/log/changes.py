"""Who waits for news of the log, and how it reaches them."""

from __future__ import annotations

import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Changes"]

POLL = 0.02
"""Seconds between two looks for commits of other processes, while somebody waits."""

PATIENCE = 1.0
"""Seconds until one who doesn't look looks all the same: the one who does may have been interrupted."""


class Changes:
    """Sleepers of this process. The first of them looks for the commits of other processes, for all.

    Each sleeps on a lock of its own, which whoever has news frees. There is no lock around the line
    of them, so an interrupt can't leave one held.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._line: deque[LockType] = deque()
        self._wakes = 0

    def tell(self) -> None:
        """Something was committed by this process."""
        if self._line:
            for bed in list(self._line):
                _free(bed)

    def wake(self) -> None:
        """Send everybody home."""
        self._wakes += 1
        self.tell()

    def wait(self, seen: int, timeout: float | None) -> bool:
        """Sleep until the number differs (True), or until the timeout in seconds or a wake (False)."""
        until = None if timeout is None else time.monotonic() + timeout
        wakes = self._wakes
        bed = allocate_lock()
        bed.acquire()
        try:
            self._line.append(bed)
            while True:
                if self._number() != seen:
                    self.tell()
                    return True
                left = None if until is None else until - time.monotonic()
                if self._wakes != wakes or (left is not None and left <= 0):
                    return False
                pause = POLL if self._line[0] is bed else PATIENCE
                bed.acquire(timeout=pause if left is None else min(pause, left))
        finally:
            with suppress(ValueError):
                self._line.remove(bed)
            for first in list(self._line)[:1]:
                _free(first)  # it is the one who looks now


def _free(bed: LockType) -> None:
    with suppress(RuntimeError):
        bed.release()
