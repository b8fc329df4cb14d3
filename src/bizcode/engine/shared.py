"""A table from which rows are taken while queries read it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["SharedTable"]


class SharedTable:
    """A query is several statements, and all of them must find what the first one found: what leaves the table
    while one runs does so by a new table, for those that come after. Not safe for threads by itself.

    Args:
        connection: by which it is changed.
        name: what its tables are called, numbered from the second on.
        columns: their SQL.
        temporary: whether only this connection has them.
    """

    def __init__(self, connection: Any, name: str, columns: str, *, temporary: bool = False) -> None:
        import duckdb

        self._connection = connection
        self._closed = duckdb.ConnectionException
        self._base = name
        self._number = 1
        self._readers: Counter[str] = Counter()
        self.name = name
        """The table of now."""
        self._create = "CREATE TEMP TABLE" if temporary else "CREATE TABLE"
        connection.execute(f"{self._create} {name} ({columns})")

    def enter(self, name: str) -> None:
        """A query begins to read a table."""
        self._readers[name] += 1

    def leave(self, name: str) -> None:
        """A query has ended."""
        self._readers[name] -= 1
        if not self._readers[name]:
            del self._readers[name]
            if name != self.name:
                with contextlib.suppress(self._closed):  # the store was closed in the meantime
                    self._connection.execute(f"DROP TABLE IF EXISTS {name}")

    def keep(self, condition: str, values: Sequence[Any] = ()) -> None:
        """Take away the rows that don't meet a condition in SQL. `name` may be another afterwards."""
        if self.name not in self._readers:
            self._connection.execute(f"DELETE FROM {self.name} WHERE NOT ({condition})", values)
            return
        number = self._number + 1
        name = f"{self._base}_{number}"
        self._connection.execute(
            f"{self._create} {name} AS SELECT * FROM {self.name} WHERE {condition}", values
        )
        self._number, self.name = number, name
