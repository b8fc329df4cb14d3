"""Who reads which files: so that none is deleted under a reader, and deleting is not put off for ever.

Readers hold a shared lock of the file locks/readers-0 or -1, whichever belongs to the present epoch (kept in
the log). To delete what the catalog no longer names, the deleter begins the next epoch, whose readers lock the
other file, and waits until nobody holds the old one: whoever comes later can't know the deleted files.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StorageError

__all__ = ["Readers", "exclusive"]

_all: weakref.WeakSet[Readers] = weakref.WeakSet()


class Readers:
    """The locks of one opened store, shared by its threads."""

    def __init__(self, directory: Path, epoch: Callable[[], int]) -> None:
        self._directory = directory
        self._epoch = epoch
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, int | None]] = {}
        _all.add(self)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While held, no file is deleted that the catalog names now or later."""
        side = self._enter()
        pid = os.getpid()
        try:
            yield
        finally:
            if pid == os.getpid():
                self._leave(side)

    def _enter(self) -> int:
        while True:
            epoch = self._epoch()
            side = epoch % 2
            with self._lock:
                count, handle = self._held.get(side, (0, None))
                if not count:
                    handle = _open(self._directory / f"readers-{side}")
                    if handle is not None:
                        fcntl.flock(handle, fcntl.LOCK_SH)
                self._held[side] = (count + 1, handle)
            # A deleter may have begun the next epoch before the lock was taken.
            same = False
            try:
                same = self._epoch() == epoch
            finally:
                if not same:
                    self._leave(side)
            if same:
                return side

    def _leave(self, side: int) -> None:
        with self._lock:
            count, handle = self._held[side]
            if count > 1:
                self._held[side] = (count - 1, handle)
                return
            del self._held[side]
            if handle is not None:
                os.close(handle)

    def drained(self, epoch: int) -> bool:
        """Whether nobody reads in that epoch, which must not be the present one."""
        handle = _open(self._directory / f"readers-{epoch % 2}")
        if handle is None:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True

    def _forked(self) -> None:
        # The parent's locks are its own: closing the child's copies doesn't release them.
        for _, handle in self._held.values():
            if handle is not None:
                os.close(handle)
        self._held = {}
        self._lock = threading.Lock()


def _after_fork() -> None:
    for readers in list(_all):
        readers._forked()


os.register_at_fork(after_in_child=_after_fork)


def _open(path: Path) -> int | None:
    """None where the directory can't be written: nobody deletes there."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open(path)
    except OSError:
        return None


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """One at a time over threads and processes; True if it had to wait for another.
    Raises StorageError where nothing can be written."""
    handle = _open(path)
    if handle is None:
        raise StorageError(f"{path.parent.parent} can't be written: the directory or disk is read-only")
    try:
        waited = False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield waited
    finally:
        os.close(handle)
