"""The tables of an embedded log, and the check that a file is one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from ..errors import StorageError

__all__ = ["FORMAT", "check_directory", "explain", "prepare"]

FORMAT = 1
APPLICATION = 0x42495A43  # "BIZC", SQLite's application_id

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, name TEXT, time INTEGER, data TEXT,
    user TEXT, id TEXT, entity TEXT, version INTEGER, value, experiments TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS entity_versions ON records (entity, version) WHERE entity IS NOT NULL;
CREATE TABLE IF NOT EXISTS ids (id TEXT PRIMARY KEY, position INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kv (space TEXT, key TEXT, value BLOB, PRIMARY KEY (space, key)) WITHOUT ROWID;
"""


def check_directory(directory: Path) -> Path:
    """The log's file in a directory that is, or may become, a store. Raises StorageError."""
    if directory.exists() and not directory.is_dir():
        raise StorageError(f"{directory} is a file: a business is kept in a directory")
    file = directory / "log.db"
    if not file.exists():
        try:
            foreign = directory.exists() and any(
                name not in ("tenants", "locks", "segments") and not name.startswith(".")
                for name in os.listdir(directory)
            )
        except OSError as error:
            raise StorageError(f"{directory} can't be read: {error.strerror}") from error
        if foreign:
            raise StorageError(
                f"{directory} is not empty and holds no business: name another directory, or an empty one"
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory} can't be created: {error.strerror}") from error
    elif file.stat().st_size and file.open("rb").read(16) != b"SQLite format 3\0":
        raise StorageError(f"{file} is not a bizcode log: it is no SQLite database")
    return file


def prepare(connection: Any, file: Path) -> tuple[str, int]:
    """Create what is missing; the store's id and how far it is sealed. Raises StorageError for a foreign or newer file."""

    def one(sql: str) -> Any:
        row = connection.execute(sql).fetchone()
        return None if row is None else row[0]

    application = one("PRAGMA application_id")
    tables = one("SELECT count(*) FROM sqlite_master")
    if tables and application != APPLICATION:
        raise StorageError(f"{file} belongs to another application: name another directory")
    version = one("PRAGMA user_version")
    if version > FORMAT:
        raise StorageError(
            f"{file} was written by a newer bizcode (format {version}, this one reads up to {FORMAT}): upgrade bizcode"
        )
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_TABLES)
            connection.execute(
                "INSERT OR IGNORE INTO meta VALUES ('store_id', ?), ('sealed_to', '0')",
                (uuid.uuid4().hex[:8],),
            )
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    return one("SELECT value FROM meta WHERE key = 'store_id'"), int(
        one("SELECT value FROM meta WHERE key = 'sealed_to'")
    )


def explain(error: Exception, file: Path) -> Exception:
    """SQLite's error as a sentence that says what to do."""
    import apsw

    if isinstance(error, apsw.FullError):
        return StorageError(f"the disk that holds {file.parent} is full: nothing was stored")
    if isinstance(error, (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError)):
        return StorageError(f"{file.parent} can't be written: the directory or disk is read-only")
    if isinstance(error, (apsw.NotADBError, apsw.CorruptError)):
        return StorageError(f"{file} is damaged: {error}; `bizcode doctor` tells more")
    if isinstance(error, apsw.IOError):
        return StorageError(f"{file} can't be read or written: {error}")
    if isinstance(error, apsw.ConnectionClosedError):
        return StorageError("the business is closed")
    return error
