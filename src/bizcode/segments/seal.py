"""A finished range of the log's tail becomes files: written and synced first, then named by the catalog and
trimmed from the tail in one transaction. A crash before leaves orphans, a crash after leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import orjson

from ..log import Log, Transaction
from . import files, schema
from .build import Rows
from .catalog import RANGES, SEGMENTS, Catalog, Segment
from .change import change, written
from .leaves import CHUNK
from .place import Place
from .schema import Schema
from .write import group_rows, write

__all__ = ["ERASED", "seal_piece"]

ROWS = 200_000
BYTES = 128 * 2**20
ERASED = ("settings", "erased")
"""A counter that whoever erases records from the log moves, so that no seal brings back what it read before."""


def seal_piece(place: Place, log: Log, catalog: Catalog, target: int) -> int:
    """Seal the next records up to the target at most; how many they were. The maintenance lock must be held."""
    erased = log.get(*ERASED)
    groups, reached = _read(log, catalog.sealed_to, target)
    rows = sum(group.count for group in groups.values())
    new: list[tuple[Segment, Schema]] = []
    with (
        files.explained(f"sealing into {place.shown}", place.shown),
        written(place, log) as made,
    ):
        for kind, name in sorted(groups):
            group = groups.pop((kind, name))
            first = group.first
            grown, columns, table = group.table(catalog.schema(kind, name))
            size = group_rows(table.num_rows, table.nbytes)
            tables = [table.slice(n, size) for n in range(0, table.num_rows, size)]
            segment = write(place, kind, name, first, columns, tables, table)
            made.append(segment)
            new.append((segment, grown))

        def commit(tx: Transaction) -> None:
            if tx.get(*ERASED) != erased:
                raise _Again
            for segment, grown in new:
                tx.put(schema.SPACE, grown.key, grown.to_json())
                tx.put(SEGMENTS, segment.id, segment.to_json(grown))
            if rows:
                tx.put(RANGES, f"{reached:020d}", orjson.dumps([catalog.sealed_to + 1, reached, rows]))
            tx.trim(reached)

        try:
            change(log, catalog.state, commit, to=reached)
        except _Again:
            for segment, _ in new:
                place.remove(segment.file)
            return 0
    return rows


class _Again(Exception):
    pass


def _read(log: Log, after: int, target: int) -> tuple[dict[tuple[str, str], Rows], int]:
    """The next records by kind and name, and the position that they reach."""
    groups: dict[tuple[str, str], Rows] = {}
    rows = size = 0
    while True:
        more = log.read(after, target, CHUNK)
        if more:
            columns = list(zip(*more, strict=True))
            size += sum(map(len, columns[4]))
            for key, part in _by_name(columns):
                if key not in groups:
                    groups[key] = Rows(key[0])
                groups[key].add(part)
        if len(more) < CHUNK:
            return groups, target
        rows += len(more)
        after = more[-1].position
        if rows >= ROWS or size >= BYTES:
            return groups, after


def _by_name(columns: list[tuple[Any, ...]]) -> Iterator[tuple[tuple[str, str], list[tuple[Any, ...]]]]:
    """The records' columns, for each kind and name its own."""
    kinds, names = columns[1], columns[2]
    count = len(kinds)
    if names.count(names[0]) == count and kinds.count(kinds[0]) == count:
        yield (kinds[0], names[0]), columns
        return
    groups: dict[tuple[str, str], list[int]] = {}
    for n, key in enumerate(zip(kinds, names, strict=True)):
        groups.setdefault(key, []).append(n)
    for key, at in groups.items():
        pick = itemgetter(*at) if len(at) > 1 else lambda column, n=at[0]: (column[n],)
        yield key, [pick(column) for column in columns]
