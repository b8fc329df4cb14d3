"""Locks as bells: who waits at one is called by freeing it.

A plain lock and no Event or Condition, whose own locks stay held for ever if Ctrl-C comes
at the wrong step.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock
from contextlib import suppress

__all__ = ["new_bell", "ring"]


def new_bell() -> LockType:
    """One that hasn't rung: `acquire` waits for it."""
    bell = allocate_lock()
    bell.acquire()
    return bell


def ring(bell: LockType) -> None:
    """Let the one who waits, or will wait, go on. Ringing twice is as good as once."""
    with suppress(RuntimeError):
        bell.release()
