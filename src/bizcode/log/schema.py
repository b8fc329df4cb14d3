"""What the log's file looks like, and how a file is told to be one of ours."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ..errors import StorageError

__all__ = ["APPLICATION", "COLUMNS", "FORMAT", "create", "inspect", "store_id"]

APPLICATION = 0x62697A63
"""SQLite's application id of a bizcode log: "bizc"."""

FORMAT = 1
"""The format this release writes. Readers refuse newer ones."""

COLUMNS = "position, kind, name, time, data, user, id, entity, version, value, experiments"

# Positions are given by the writer (newest + 1, under the write lock) rather than by AUTOINCREMENT:
# that would rewrite a second page at every commit, which costs a third of a single write.
# `floor` in `meta` is the highest position that was ever deleted, so that the head never goes back.
TABLES = (
    """create table records (
        position integer primary key,
        kind, name, time, data, user, id, entity, version, value, experiments
    )""",
    "create unique index records_entity on records (entity, version) where entity is not null",
    "create table ids (id primary key, position) without rowid",
    "create table kv (space, key, value, primary key (space, key)) without rowid",
    "create table spaces (space primary key, generation) without rowid",
    "create table erased (position integer primary key)",
    "create table meta (key primary key, value) without rowid",
)


def inspect(execute: Any, path: Path) -> bool:
    """True for a log of ours, False for a fresh, empty file.

    Raises:
        StorageError: another application's database, or a log in a newer format.
    """
    application = execute("pragma application_id").fetchall()[0][0]
    version = execute("pragma user_version").fetchall()[0][0]
    if application == APPLICATION:
        if version > FORMAT:
            raise StorageError(
                f"{path} was written by a newer bizcode (format {version}, this release reads up to "
                f"{FORMAT}): upgrade bizcode to open it"
            )
        return True
    tables = execute("select count(*) from sqlite_schema").fetchall()[0][0]
    if application or version or tables:
        raise StorageError(
            f"{path} is a database of another application, not a bizcode store: choose another directory"
        )
    return False


def create(execute: Any) -> None:
    """Lay out a fresh log; inside the caller's transaction."""
    for statement in TABLES:
        execute(statement)
    execute("insert into meta values ('store', ?), ('trimmed', 0), ('floor', 0)", (secrets.token_hex(6),))
    execute(f"pragma application_id = {APPLICATION}")
    execute(f"pragma user_version = {FORMAT}")


def store_id(execute: Any) -> str:
    """The random name that the store got at its creation."""
    return execute("select value from meta where key = 'store'").fetchall()[0][0]
