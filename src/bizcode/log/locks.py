"""A fair lock between processes.

SQLite's own write lock is not fair: with tight loops one writer can starve another for seconds.
Two files make a turnstile: who waits holds `turn` while it waits for `main`, so nobody passes
it, and the next one stands at `turn`. Without a crowd only `main` is locked and unlocked.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

__all__ = ["Turnstile"]

_EXCLUSIVE = fcntl.LOCK_EX
_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB
_UNLOCK = fcntl.LOCK_UN
_flock = fcntl.flock


class Turnstile:
    """One at a time over all processes, nobody starves. Not for threads: hold a thread lock around it.

    The operating system frees the locks of a process that dies.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._turn = os.open(directory / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._main = os.open(directory / "main", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if os.fstat(self._main).st_size < 1:
            os.pwrite(self._main, b"\0", 0)
        # One byte that every process sees: 1 while somebody waits for `main`. It only tells newcomers
        # to queue up; if its writer dies, the next one through the turnstile sets it right.
        self._crowd = mmap.mmap(self._main, 1)

    def enter(self) -> None:
        """Wait for the lock. Calling `leave` is right even if this was interrupted."""
        if self._crowd[0] == 0:
            try:
                _flock(self._main, _TRY)
                return
            except BlockingIOError:
                pass
        try:
            _flock(self._turn, _EXCLUSIVE)
            try:
                self._crowd[0] = 1
                _flock(self._main, _EXCLUSIVE)
            finally:
                self._crowd[0] = 0
        finally:
            _flock(self._turn, _UNLOCK)

    def leave(self) -> None:
        """Free the lock; harmless without it."""
        _flock(self._main, _UNLOCK)

    def close(self) -> None:
        """Give the files back. In a forked child this frees nothing that its parent holds."""
        self._crowd.close()
        os.close(self._turn)
        os.close(self._main)
