"""Records taken out of the files for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StorageError
from .catalog import Segment
from .merge import read
from .seal import publish, store_table

if TYPE_CHECKING:
    from .store import SegmentStore

__all__ = ["erase"]

PATIENCE = 30.0
"""Seconds to wait for running queries to end before the old files can be deleted."""


def erase(store: SegmentStore, positions: set[int]) -> int:
    """Rewrite each file that holds one of the positions; how many records went."""
    import pyarrow as pa
    import pyarrow.compute as pc

    gone = 0
    ranges: dict[int, int] = {}
    bounds = [(int(key), int(value)) for key, value in store.log.scan("sealed")]
    removed: list[Segment] = []
    added: list[Segment] = []
    for segment in store.catalog().segments:
        here = [p for p in positions if segment.first_position <= p <= segment.last_position]
        if not here:
            continue
        table = read(store, [segment])
        mask = pc.is_in(table.column("position"), pa.array(here, pa.int64()))
        found = table.filter(mask).column("position").to_pylist()
        if not found:
            continue
        kept = table.filter(pc.invert(mask))
        removed.append(segment)
        if kept.num_rows:
            added.append(store_table(store, segment.kind, segment.name, kept, segment.rest))
        gone += len(found)
        for position in found:
            end = next(until for until, _ in bounds if until >= position)
            ranges[end] = ranges.get(end, 0) + 1
    if removed:
        counts = dict(bounds)
        with store.log.transaction() as tx:
            publish(tx, added, removed, {})
            for end, count in ranges.items():
                tx.put("sealed", f"{end:020d}", str(counts[end] - count).encode())
        store.sweep(PATIENCE)
        if store.log.scan("garbage", limit=1):
            raise StorageError(
                "the records are erased from the catalog, but a query that has run for 30 s still holds the old "
                "files: `bizcode doctor --mend` deletes them once it has ended"
            )
    return gone
