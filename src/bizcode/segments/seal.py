"""A finished range of the log's tail becomes files: written and synced first, then named by the catalog and
trimmed from the tail in one transaction. A crash before leaves orphans, a crash after leaves nothing."""

from __future__ import annotations

from pathlib import Path

import orjson

from ..log import Log, Transaction
from ..record import Stored
from . import files, schema
from .build import build
from .catalog import RANGES, SEGMENTS, Catalog, Segment
from .change import change, written
from .schema import Schema
from .write import GROUP, group_rows, write

__all__ = ["ERASED", "seal_piece"]

ROWS = 200_000
BYTES = 128 * 2**20
_READ = 20_000
ERASED = ("settings", "erased")
"""A counter that whoever erases records from the log moves, so that no seal brings back what it read before."""


def seal_piece(directory: Path, log: Log, catalog: Catalog, target: int) -> int:
    """Seal the next records up to the target at most; how many they were. The maintenance lock must be held."""
    erased = log.get(*ERASED)
    rows, reached = _read(log, catalog.sealed_to, target)
    groups: dict[tuple[str, ...], list[Stored]] = {}
    for row in rows:
        groups.setdefault(row[1:3], []).append(row)  # type: ignore[arg-type]
    new: list[tuple[Segment, Schema]] = []
    with (
        files.explained(f"sealing into {directory / files.ROOT}", directory),
        written(directory, log) as made,
    ):
        for kind, name in sorted(groups):
            group = groups.pop((kind, name))
            first = group[0].position
            grown, columns, table = build(catalog.schema(kind, name), group)
            size = group_rows(table.num_rows, table.nbytes) if table.num_rows > GROUP else table.num_rows
            tables = [table.slice(n, size) for n in range(0, table.num_rows, size)]
            segment = write(directory, kind, name, first, columns, tables, table)
            made.append(segment)
            new.append((segment, grown))

        def commit(tx: Transaction) -> None:
            if tx.get(*ERASED) != erased:
                raise _Again
            for segment, grown in new:
                tx.put(schema.SPACE, grown.key, grown.to_json())
                tx.put(SEGMENTS, segment.id, segment.to_json(grown))
            if rows:
                tx.put(RANGES, f"{reached:020d}", orjson.dumps([catalog.sealed_to + 1, reached, len(rows)]))
            tx.trim(reached)

        try:
            change(log, catalog.state, commit, to=reached)
        except _Again:
            for segment, _ in new:
                files.remove(directory / segment.file)
            return 0
    return len(rows)


class _Again(Exception):
    pass


def _read(log: Log, after: int, target: int) -> tuple[list[Stored], int]:
    rows: list[Stored] = []
    size = 0
    while True:
        more = log.read(after, target, _READ)
        rows += more
        size += sum(len(row.data) for row in more)
        if len(more) < _READ:
            return rows, target
        after = more[-1].position
        if len(rows) >= ROWS or size >= BYTES:
            return rows, after
