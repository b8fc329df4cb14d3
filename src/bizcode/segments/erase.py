"""Records taken out of the files for good: the files that hold them are written anew without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import orjson

from ..log import Log, Transaction
from . import files, schema
from .catalog import RANGES, SEGMENTS, Catalog, Segment
from .change import change, discard, written
from .place import Place
from .read import Files, columns_of, damaged, open_file
from .schema import Schema
from .seal import ERASED
from .write import write

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["erase"]


def erase(
    place: Place,
    log: Log,
    held: Files,
    catalog: Catalog,
    positions: Iterable[int],
    also: Callable[[Transaction], None] | None,
) -> int:
    """Take the records at the positions out of the catalog's files, and run `also` in the transaction that
    does it; how many were sealed. The maintenance lock must be held. The old files remain to be deleted."""
    import numpy as np

    wanted = np.unique(np.fromiter(positions, np.int64))
    removed: list[Segment] = []
    gone: list[np.ndarray] = []
    with files.explained(f"erasing in {place.shown}", place.shown), written(place, log) as made:
        for segment in held.holding(catalog.segments, wanted):
            found = held.positions(segment)
            here = found[np.isin(found, wanted)]
            if not len(here):
                continue
            removed.append(segment)
            gone.append(here)
            if len(here) < segment.rows:
                made.append(_rewritten(place, segment, wanted))
        erased = np.sort(np.concatenate(gone)) if gone else np.zeros(0, np.int64)

        def commit(tx: Transaction) -> None:
            discard(tx, removed)
            for grown in _schemas(catalog, removed, made):
                tx.put(schema.SPACE, grown.key, grown.to_json())
            for segment in made:
                tx.put(SEGMENTS, segment.id, segment.to_json(catalog.schema(segment.kind, segment.name)))
            if len(erased):
                for key, value in tx.scan(RANGES):
                    first, last, rows = orjson.loads(value)
                    low, high = erased.searchsorted([first, last + 1])
                    if high > low:
                        tx.put(RANGES, key, orjson.dumps([first, last, rows - int(high - low)]))
            tx.put(*ERASED, str(int(tx.get(*ERASED) or 0) + 1).encode())
            if also is not None:
                also(tx)

        change(log, catalog.state, commit)
    return len(erased)


def _rewritten(place: Place, segment: Segment, without: np.ndarray) -> Segment:
    with open_file(place, segment) as file:
        live = {"position"}
        for table in _groups(place, segment, file, without):
            live |= {name for name in table.column_names if table[name].null_count < table.num_rows}
        columns = [column for column in columns_of(file) if column.column in live]
        leaves = {column.column for column in columns_of(file)} | {"value", "value:int"}
        names = [name for name in file.schema_arrow.names if name in live or name not in leaves]
        tables = (table.select(names) for table in _groups(place, segment, file, without))
        first = next(tables)
        return write(
            place,
            segment.kind,
            segment.name,
            segment.first_position,
            columns,
            chain([first], tables),
            first,
        )


def _groups(place: Place, segment: Segment, file: object, without: np.ndarray) -> Iterator[pa.Table]:
    import numpy as np
    import pyarrow as pa

    for n in range(file.num_row_groups):  # type: ignore[attr-defined]
        try:
            table = file.read_row_group(n, use_threads=False)  # type: ignore[attr-defined]
        except (OSError, pa.ArrowException) as error:
            raise damaged(place, segment, error) from error
        table = table.filter(pa.array(~np.isin(table["position"].to_numpy(), without)))
        if table.num_rows:
            yield table


def _schemas(catalog: Catalog, removed: list[Segment], made: list[Segment]) -> Iterator[Schema]:
    """The schemas that lose columns, because no file has them any more: names can tell of a user too."""
    old = {segment.id for segment in removed}
    for kind, name in dict.fromkeys((segment.kind, segment.name) for segment in removed):
        left = [s for s in catalog.of(kind, name) if s.id not in old]
        left += [s for s in made if (s.kind, s.name) == (kind, name)]
        columns = frozenset().union(*(s.columns for s in left))
        rest = frozenset().union(*(s.rest or () for s in left))
        known = catalog.schema(kind, name)
        kept = known.keep(columns, None if "*" in rest else rest)
        if kept != known:
            yield kept
