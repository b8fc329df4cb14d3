"""A fair lock between processes, and locks by name, both on files.

SQLite's own write lock is not fair: with tight loops one writer can starve another for seconds.
Two files make a turnstile: who waits holds `turn` while it waits for `main`, so nobody passes
it, and the next one stands at `turn`. Without a crowd only `main` is locked and unlocked.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

from ..errors import StorageError
from .interface import Held

__all__ = ["FileLocks", "Held", "Turnstile"]

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


class FileLocks:
    """Implements `Locks` for the processes of one machine: a file in the directory per name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, name: str, *, shared: bool = False, wait: bool = False) -> Held | None:
        handle = self._open(name)
        try:
            _flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return _HeldFile(handle)

    def _open(self, name: str) -> int:
        path = self._directory / name
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._open(name)
        except OSError as error:
            raise StorageError(
                f"{self._directory.parent} can't be written: the directory or disk is read-only"
            ) from error


class _HeldFile:
    __slots__ = ("_handle",)

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            # The system frees the lock with its last handle: a child's copy is not the last.
            os.close(handle)
