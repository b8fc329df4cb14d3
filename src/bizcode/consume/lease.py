"""Who works on a consumer: a lock of the log, which is freed when its holder dies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from ..log import Locks

__all__ = ["lease"]


@contextmanager
def lease(locks: Locks, name: str) -> Iterator[bool]:
    """Hold the lease of a name among all processes for the block; False if another holds it."""
    held = locks.take(f"lease-{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}")
    if held is None:
        yield False
        return
    try:
        yield True
    finally:
        held.release()
