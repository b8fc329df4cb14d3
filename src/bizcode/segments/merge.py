"""Small files of one name become larger ones, in tiers, so that each record is rewritten a few times at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalog import Segment
from .leaves import EXACT
from .seal import publish, store_table

if TYPE_CHECKING:
    from .store import SegmentStore

__all__ = ["merge", "read"]

LARGEST = 2_000_000
TIERS = (20_000, 200_000, LARGEST)
FAN = 8


def merge(store: SegmentStore, all: bool = False) -> int:
    """Merge what is due: eight files of one name and tier, or with `all` whatever is below the largest size."""
    gone = 0
    catalog = store.catalog()
    for kind, name in sorted({(s.kind, s.name) for s in catalog.segments}):
        for group in _groups(catalog.of(kind, name), all):
            gone += _merge(store, kind, name, group)
    return gone


def _groups(segments: list[Segment], all: bool) -> list[list[Segment]]:
    """Runs of files to merge into one each, none larger than the largest size."""
    found = []
    tiers = [LARGEST] if all else TIERS
    low = 0
    for tier in tiers:
        members = sorted(
            (s for s in segments if low <= s.rows < tier), key=lambda s: (s.min_time, s.first_position)
        )
        low = tier
        group: list[Segment] = []
        for segment in members:
            if sum(s.rows for s in group) + segment.rows > LARGEST:
                found.append(group)
                group = []
            group.append(segment)
        found.append(group)
    least = 2 if all else FAN
    return [group for group in found if len(group) >= least]


def _merge(store: SegmentStore, kind: str, name: str, group: list[Segment]) -> int:
    table = retyped(store, kind, name, read(store, group))
    rests = [s.rest for s in group if s.rest is not None]
    rest = None
    if rests:
        names = sorted({key for found in rests for key in found})
        rest = ("*",) if "*" in names or len(names) > 1_000 else tuple(names)
    merged = store_table(store, kind, name, table, rest)
    with store.log.transaction() as tx:
        publish(tx, [merged], group, {})
    return len(group)


def read(store: SegmentStore, group: list[Segment]) -> Any:
    """All rows of several files of one name, sorted by (timestamp, position)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..errors import StorageError

    tables = []
    for segment in group:
        path = store.directory / segment.file
        try:
            tables.append(pq.ParquetFile(path).read())
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"the segment {path.name} can't be read; `bizcode doctor` tells more: {error}"
            ) from error
    table = pa.concat_tables(tables, promote_options="default")
    return table.sort_by([("timestamp", "ascending"), ("position", "ascending")])


def retyped(store: SegmentStore, kind: str, name: str, table: Any) -> Any:
    """Where a leaf has ints in one column and floats in another, one column of floats if each int is exact."""
    present = set(table.column_names)
    by_path: dict[tuple[str, ...], dict[str, str]] = {}
    for column in store.catalog().columns(kind, name):
        if column.column in present:
            by_path.setdefault(column.path, {})[column.type] = column.column
    pairs = [
        (types["int"], types["double"]) for types in by_path.values() if {"int", "double"} <= types.keys()
    ]
    if {"value", "value:int"} <= present:
        pairs.append(("value:int", "value"))
    for ints, doubles in pairs:
        table = _folded(table, ints, doubles)
    return table


def _folded(table: Any, ints: str, doubles: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    span = pc.min_max(table.column(ints)).as_py()
    if span["min"] is not None and not -EXACT <= span["min"] <= span["max"] <= EXACT:
        return table
    both = pc.coalesce(table.column(doubles), table.column(ints).cast(pa.float64()))
    return table.set_column(table.column_names.index(doubles), doubles, both).drop_columns([ints])
