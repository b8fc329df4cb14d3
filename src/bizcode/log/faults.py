"""SQLite's errors, said in a sentence that helps."""

from __future__ import annotations

from pathlib import Path

import apsw

from ..errors import StorageError

__all__ = ["fault"]


def fault(error: BaseException, path: Path) -> StorageError:
    """What happened to the log at `path`, as a StorageError to be raised from `error`."""
    if isinstance(error, apsw.FullError):
        return StorageError(f"the disk that holds {path} is full: nothing was stored, free some space")
    if isinstance(error, apsw.ReadOnlyError):
        return StorageError(f"{path} is read-only: the store can be read, but not written")
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError, apsw.FormatError)):
        if isinstance(error, apsw.NotADBError):
            return StorageError(f"{path} is no bizcode log: it isn't an SQLite file, or was overwritten")
        return StorageError(
            f"{path} is damaged ({error}): restore it from a backup, "
            f"or recover what is left with `sqlite3 log.db .recover`"
        )
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StorageError(
            f"another program has held {path} locked for too long: close what has it open for writing"
        )
    if isinstance(error, (apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError)):
        return StorageError(f"{path} can't be opened: check that it exists and that you may read it")
    if isinstance(error, apsw.IOError):
        return StorageError(f"reading or writing {path} failed ({error}): check the disk, nothing was stored")
    if isinstance(error, apsw.TooBigError):
        return StorageError(f"a value is too big for {path}: at most 1 GB fits one record")
    if isinstance(error, (apsw.ConnectionClosedError, apsw.CursorClosedError)):
        return StorageError(f"{path} has been closed")
    return StorageError(f"{path}: {error}")
