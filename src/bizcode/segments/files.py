"""The files themselves: where they lie, written whole or not at all, checksums, errors that say what happened."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ..errors import StorageError

__all__ = ["ROOT", "TEMPORARY", "checksum", "explained", "new_file", "relative", "remove", "sync_directory"]

ROOT = "segments"
TEMPORARY = ".part"


def relative(kind: str, name: str, first: int) -> tuple[str, str]:
    """A new segment's id and its file relative to the store: segments/<kind>/<name>/<id>.parquet.
    `first` is the position from which it holds records, for those who look at the directory."""
    id = f"{first:012d}-{os.urandom(6).hex()}"
    return id, f"{ROOT}/{kind}/{_escaped(name)}/{id}.parquet"


def _escaped(name: str) -> str:
    """A name as a directory, readable where it can be; long ones are cut and told apart by a hash."""
    text = quote(name, safe="")
    if text.startswith("."):
        text = f"%2E{text[1:]}"
    if len(text) > 120:
        import hashlib

        text = f"{text[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return text


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file beside the path, which takes its place, synced, at the end of the block;
    on an error nothing is left."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    _make(path.parent)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        remove(temporary)
        raise


def _make(directory: Path) -> None:
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> bool:
    """Delete a file; False if it was gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    import hashlib

    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def explained(what: str, directory: str) -> Iterator[None]:
    """Turn the system's errors inside into a StorageError that says what failed and why."""
    try:
        yield
    except OSError as error:
        reason = {
            errno.ENOSPC: f"the disk that holds {directory} is full",
            errno.EDQUOT: f"the disk quota for {directory} is used up",
            errno.EFBIG: f"a file in {directory} would be larger than allowed",
            errno.EROFS: f"{directory} is read-only",
            errno.EACCES: f"{directory} may not be written",
            errno.EPERM: f"{directory} may not be written",
        }.get(error.errno or _arrow_errno(error), str(error).splitlines()[0] if str(error) else repr(error))
        raise StorageError(f"{what} failed: {reason}; nothing was changed") from error
    except Exception as error:
        # Where pyarrow was never imported, none of its errors can have been raised: a first question needs it not.
        pyarrow = sys.modules.get("pyarrow")
        if pyarrow is None or not isinstance(error, pyarrow.ArrowException):
            raise
        raise StorageError(f"{what} failed: {str(error).splitlines()[0]}; nothing was changed") from error


def _arrow_errno(error: OSError) -> int:
    text = str(error)
    at = text.find("[errno ")
    digits = text[at + 7 :].partition("]")[0] if at >= 0 else ""
    return int(digits) if digits.isdecimal() else 0
