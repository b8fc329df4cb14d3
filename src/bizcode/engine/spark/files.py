"""Sealed files at a worker: where the statement says, or fetched from the bucket once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...errors import StorageError

__all__ = ["at_hand"]


def at_hand(path: str, origin: Sequence[str]) -> str:
    """The path of a file that is the same as one of the driver's; fetched from its origin where there is none.

    Args:
        path: where it lies on the driver's machine, and on this one if both see the directory.
        origin: the bucket's URL and the name in it; empty where there is no other place.
    """
    if not origin or os.path.exists(path):
        return path
    from ...segments.bucket import system_of

    url, name = origin
    kept = Path(tempfile.gettempdir()) / f"bizcode-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    if kept.stat().st_uid != os.getuid():
        raise StorageError(f"{kept} is another's: files fetched from {url} can't be kept there")
    found = kept / f"{hashlib.blake2b(f'{url} {name}'.encode(), digest_size=16).hexdigest()}.parquet"
    if not found.exists():
        # Files never change, so a copy is good for ever; it appears whole.
        with (
            tempfile.NamedTemporaryFile(dir=kept, delete=False) as here,
            system_of(url).open_input_stream(name) as stream,
        ):
            shutil.copyfileobj(stream, here)
        os.replace(here.name, found)
    return str(found)
