"""Who reads which files: so that none is deleted under a reader, and deleting is not put off for ever.

Readers hold a shared lock named readers-0 or -1, whichever belongs to the present epoch (kept in
the log). To delete what the catalog no longer names, the deleter begins the next epoch, whose readers lock the
other name, and waits until nobody holds the old one: whoever comes later can't know the deleted files.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import StorageError
from ..log import Held, Locks

__all__ = ["Readers", "exclusive"]

_all: weakref.WeakSet[Readers] = weakref.WeakSet()


class Readers:
    """The locks of one opened store, shared by its threads."""

    def __init__(self, locks: Locks, epoch: Callable[[], int]) -> None:
        self._locks = locks
        self._epoch = epoch
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, Held | None]] = {}
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
                    handle = _held(self._locks, f"readers-{side}")
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
                handle.release()

    def drained(self, epoch: int) -> bool:
        """Whether nobody reads in that epoch, which must not be the present one."""
        try:
            held = self._locks.take(f"readers-{epoch % 2}")
        except StorageError:
            return False
        if held is None:
            return False
        held.release()
        return True

    def _forked(self) -> None:
        for _, handle in self._held.values():
            if handle is not None:
                handle.release()
        self._held = {}
        self._lock = threading.Lock()


def _after_fork() -> None:
    for readers in list(_all):
        readers._forked()


os.register_at_fork(after_in_child=_after_fork)


def _held(locks: Locks, name: str) -> Held | None:
    """None where the directory can't be written: nobody deletes there."""
    try:
        return locks.take(name, shared=True, wait=True)
    except StorageError:
        return None


@contextmanager
def exclusive(locks: Locks) -> Iterator[bool]:
    """One at a time over threads and processes; True if it had to wait for another.
    Raises StorageError where nothing can be written."""
    held = locks.take("segments")
    waited = held is None
    if held is None:
        held = locks.take("segments", wait=True)
    try:
        yield waited
    finally:
        if held is not None:
            held.release()
