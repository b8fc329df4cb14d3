"""A fair lock among processes: a turnstile of two file locks, so that no writer starves."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["Turnstile"]


class Turnstile:
    """Whoever waits holds the turn, so a process that has just written queues behind those that wait.

    One thread of a process at a time: the log's own lock sees to that.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turn = os.open(directory / "turn", flags, 0o666)
        self._main = os.open(directory / "main", flags, 0o666)

    def acquire(self) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._main, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def release(self) -> None:
        fcntl.flock(self._main, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._main)
