"""From the tail to files. The files are on disk before the one transaction that names them and trims the tail."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..log import Transaction
from ..record import Stored
from .catalog import Column, Segment, dump_columns, parse_columns
from .files import checksum, directory_of, write
from .leaves import FIXED, Leaves, table_of

if TYPE_CHECKING:
    from .store import SegmentStore

__all__ = ["Names", "describe", "publish", "seal"]

BATCH = 500_000


class Names:
    """The physical columns of one name, known and new."""

    def __init__(self, known: Iterable[Column]) -> None:
        self.columns: dict[tuple[tuple[str, ...], str], Column] = {(c.path, c.type): c for c in known}
        self._taken = {c.column.lower() for c in self.columns.values()} | set(FIXED)
        self._version = max((c.version for c in self.columns.values()), default=0)
        self._added = False

    def column(self, path: tuple[str, ...], kind: str) -> str:
        """The physical column of a leaf of a type; a new one is given a free name, for good."""
        found = self.columns.get((path, kind))
        if found is not None:
            return found.column
        plain = ".".join(path)
        if any(known == path for known, _ in self.columns):
            plain = f"{plain}:{kind}"
        name, n = plain, 2
        while name.lower() in self._taken:
            name, n = f"{plain}~{n}", n + 1
        self._taken.add(name.lower())
        if not self._added:
            self._added = True
            self._version += 1
        self.columns[path, kind] = Column(path, kind, name, self._version, 2**62, -(2**62))
        return name

    def see(self, leaves: Leaves, times: list[int]) -> None:
        """Note when each leaf was seen."""
        for key, (rows, _) in leaves.found.items():
            column = self.columns[key]
            low, high = min(times[n] for n in rows), max(times[n] for n in rows)
            self.columns[key] = replace(
                column, first_seen=min(column.first_seen, low), last_seen=max(column.last_seen, high)
            )


def seal(store: SegmentStore, until: int | None) -> int:
    """Seal the tail up to a position, a batch at a time; how many records."""
    total = 0
    while True:
        rows = store.log.read(store.catalog().sealed_to, until, BATCH)
        if not rows:
            return total
        total += _seal_batch(store, rows)


def _seal_batch(store: SegmentStore, rows: list[Stored]) -> int:
    groups: dict[tuple[str, str], list[Stored]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.name), []).append(row)
    catalog = store.catalog()
    segments: list[Segment] = []
    names: dict[tuple[str, str], Names] = {}
    for (kind, name), members in groups.items():
        known = names[kind, name] = Names(catalog.columns(kind, name))
        table, leaves = table_of(members, known.column)
        known.see(leaves, sorted(row.time for row in members))
        segments.append(store_table(store, kind, name, table, rest_names(leaves.rest.values())))
    until = rows[-1].position
    with store.log.transaction() as tx:
        publish(tx, segments, [], names)
        tx.put("sealed", f"{until:020d}", str(len(rows)).encode())
        tx.put("settings", "sealed_to", str(until).encode())
        tx.trim(until)
    return len(rows)


def rest_names(rests: Iterable[dict[str, Any]]) -> tuple[str, ...] | None:
    """The top-level names in the leftovers, as a segment lists them."""
    found = {key for rest in rests for key in rest}
    if not found:
        return None
    return ("*",) if len(found) > 1_000 else tuple(sorted(found))


def store_table(
    store: SegmentStore, kind: str, name: str, table: Any, rest: tuple[str, ...] | None
) -> Segment:
    """Write a table as a new file and describe it."""
    file = f"{directory_of(kind, name)}/{uuid.uuid4().hex}.parquet"
    write(table, store.directory / file)
    return describe(store, kind, name, file, table, rest)


def describe(
    store: SegmentStore, kind: str, name: str, file: str, table: Any, rest: tuple[str, ...] | None
) -> Segment:
    """The catalog's entry for a file that holds this table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    positions = pc.min_max(table.column("position")).as_py()
    times = pc.min_max(table.column("timestamp").cast(pa.int64())).as_py()
    path = store.directory / file
    return Segment(
        id=f"{positions['min']:020d}-{path.stem[:12]}",
        kind=kind,
        name=name,
        file=file,
        rows=table.num_rows,
        first_position=positions["min"],
        last_position=positions["max"],
        min_time=times["min"],
        max_time=times["max"],
        bytes=path.stat().st_size,
        checksum=checksum(path),
        columns=frozenset(set(table.column_names) - (set(FIXED) - {"value", "value:int"})),
        rest=rest,
    )


def publish(
    tx: Transaction,
    added: Iterable[Segment],
    removed: Iterable[Segment],
    names: dict[tuple[str, str], Names],
) -> None:
    """Change the catalog: what comes, what goes (its file is deleted once nobody reads), and the columns."""
    for segment in removed:
        tx.delete("segment", segment.id)
        tx.put("garbage", segment.file, b"1")
    for segment in added:
        tx.put("segment", segment.id, segment.dump())
    for (kind, name), known in names.items():
        if known.columns:
            kept = {(c.path, c.type): c for c in parse_columns(tx.get("column", f"{kind}/{name}"))}
            kept.update(known.columns)
            tx.put("column", f"{kind}/{name}", dump_columns(kept.values()))
    generation = int(tx.get("settings", "catalog") or 0) + 1
    tx.put("settings", "catalog", str(generation).encode())
