"""Who works on a consumer: a lock on a file, which the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["lease"]


@contextmanager
def lease(directory: Path, name: str) -> Iterator[bool]:
    """Hold the lease of a name among all processes for the block; False if another holds it."""
    file = directory / "locks" / f"lease-{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}"
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)
