"""The log in PostgreSQL, for a business that runs on several machines. The only place that imports psycopg."""

from __future__ import annotations

from ...errors import StorageError

try:
    import psycopg as _psycopg
except ImportError as error:
    raise StorageError(
        f"a store in PostgreSQL needs psycopg ({error}): pip install 'bizcode[postgres]'"
    ) from error

from .log import PostgresLog, open_postgres

__all__ = ["PostgresLog", "open_postgres"]

del _psycopg
