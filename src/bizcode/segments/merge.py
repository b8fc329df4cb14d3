"""Small files of one name become larger ones, in tiers, so that each record is rewritten a few times at most.

Files that are neighbours in position are merged, streaming: each is sorted by time already, so memory holds
one row group of the result. Where ints and doubles of one leaf meet, they become doubles if that is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..log import Log, Transaction
from . import files
from .arrow import compute
from .catalog import SEGMENTS, Catalog, Segment
from .change import change, discard, written
from .leaves import EXACT
from .leaves import Path as LeafPath
from .place import Place
from .read import Damaged, columns_of, damaged, open_file
from .schema import FIXED, REST, Column
from .write import group_rows, write

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LARGEST", "batches", "merge_runs", "runs"]

LARGEST = 2_000_000
LARGEST_BYTES = 512 * 2**20
FAN = 4
_BATCH = 32_768
_BATCH_RUNS = 250


def runs(segments: list[Segment], all: bool = False) -> list[list[Segment]]:
    """Neighbours worth merging into one file each, oldest first.

    At least four, of which none makes up more than half: so a record's file at least doubles each time it is
    rewritten. With `all` any two that fit.

    Args:
        segments: of one name, in order of position.
    """
    found: list[list[Segment]] = []
    start = 0
    while start < len(segments):
        best = 0
        rows = size = largest = 0
        for n, segment in enumerate(segments[start:], 1):
            rows, size, largest = rows + segment.rows, size + segment.bytes, max(largest, segment.rows)
            if rows > LARGEST or size > LARGEST_BYTES:
                break
            if (n >= 2) if all else (n >= FAN and largest * 2 <= rows):
                best = n
        if best:
            found.append(segments[start : start + best])
        start += best or 1
    return found


def batches(due: list[list[Segment]]) -> Iterator[list[list[Segment]]]:
    """Runs to be merged in one transaction each: many small ones together, a large one alone."""
    batch: list[list[Segment]] = []
    rows = 0
    for run in due:
        size = sum(segment.rows for segment in run)
        if batch and (rows + size > LARGEST or len(batch) == _BATCH_RUNS):
            yield batch
            batch, rows = [], 0
        batch.append(run)
        rows += size
    if batch:
        yield batch


def merge_runs(
    place: Place, log: Log, catalog: Catalog, due: list[list[Segment]]
) -> tuple[list[list[Segment]], list[Damaged]]:
    """Make one file of each run; the runs that were merged, and why the others weren't: a damaged file.
    The maintenance lock must be held.

    Raises:
        StorageError: a new file can't be written; nothing has changed then.
    """
    done: list[list[Segment]] = []
    damage: list[Damaged] = []
    with files.explained(f"merging in {place.shown}", place.shown), written(place, log) as made:
        for run in due:
            try:
                made.append(_merge(place, catalog, run))
                done.append(run)
            except Damaged as error:
                damage.append(error)

        def commit(tx: Transaction) -> None:
            for run, segment in zip(done, made, strict=True):
                discard(tx, run)
                tx.put(SEGMENTS, segment.id, segment.to_json(catalog.schema(segment.kind, segment.name)))

        if done:
            change(log, catalog.state, commit)
    return done, damage


def _merge(place: Place, catalog: Catalog, run: list[Segment]) -> Segment:
    kind, name = run[0].kind, run[0].name
    with ExitStack() as opened:
        inputs = []
        for segment in run:
            inputs.append(_Input(place, segment))
            opened.enter_context(inputs[-1].file)
        shape = _Shape(kind, inputs, catalog)
        tables = _merged(inputs, shape)
        first = next(tables)
        return write(place, kind, name, run[0].first_position, shape.columns, chain([first], tables), first)


class _Input:
    """One file, read from its beginning to its end."""

    def __init__(self, place: Place, segment: Segment) -> None:
        self.place = place
        self.segment = segment
        self.file = open_file(place, segment)
        self.columns = columns_of(self.file)
        self._batches = self.file.iter_batches(_BATCH, use_threads=False)
        self._ready: list[pa.RecordBatch] = []

    def keys(self) -> tuple[Any, Any]:
        """Times and positions of all rows."""
        table = self._checked(lambda: self.file.read(["position", "timestamp"], use_threads=False))
        return table["timestamp"].cast("int64").to_numpy(), table["position"].to_numpy()

    def peek(self) -> float:
        """Bytes of a row in memory, by the first batch."""
        if not self._ready:
            self._ready.append(self._checked(lambda: next(self._batches)))
        return self._ready[0].nbytes / max(1, self._ready[0].num_rows)

    def take(self, count: int) -> pa.Table:
        """The next rows."""
        import pyarrow as pa

        taken = []
        while count:
            batch = self._ready.pop() if self._ready else self._checked(lambda: next(self._batches))
            if batch.num_rows > count:
                self._ready.append(batch.slice(count))
                batch = batch.slice(0, count)
            taken.append(batch)
            count -= batch.num_rows
        return pa.Table.from_batches(taken)

    def _checked(self, read: Any) -> Any:
        import pyarrow as pa

        try:
            return read()
        except (OSError, pa.ArrowException, StopIteration) as error:
            raise damaged(self.place, self.segment, error) from error

    def bounds(self, column: str) -> tuple[int, int]:
        """Lowest and highest value of an integer column, by the footer."""
        metadata = self.file.metadata
        number = self.file.schema_arrow.get_field_index(column)
        found = [metadata.row_group(n).column(number).statistics for n in range(metadata.num_row_groups)]
        found = [s for s in found if s is not None and s.has_min_max]
        return min((s.min for s in found), default=0), max((s.max for s in found), default=0)


class _Shape:
    """The columns of the merged file, and which int columns go into which double columns."""

    def __init__(self, kind: str, inputs: list[_Input], catalog: Catalog) -> None:
        import pyarrow as pa

        types: dict[str, pa.DataType] = {}
        for each in inputs:
            for field in each.file.schema_arrow:
                types.setdefault(field.name, field.type)
        known = {column.column: column for each in inputs for column in each.columns}
        self.folds: dict[str, str] = {}
        doubles: dict[LeafPath, str] = {c.path: c.column for c in known.values() if c.type == "double"}
        for column in known.values():
            if column.type == "int" and column.path in doubles:
                self._fold(inputs, column.column, doubles[column.path])
        if "value" in types and "value:int" in types and "value" in FIXED[kind]:
            self._fold(inputs, "value:int", "value")
        order = {column.column: n for n, column in enumerate(catalog.columns(kind, inputs[0].segment.name))}
        self.columns: list[Column] = sorted(
            (column for column in known.values() if column.column not in self.folds),
            key=lambda column: order.get(column.column, len(order)),
        )
        fixed = [name for name in FIXED[kind] if name in types and name != REST and name not in self.folds]
        names = [*fixed, *(column.column for column in self.columns), REST]
        self.schema = pa.schema([(name, types[name]) for name in names])

    def _fold(self, inputs: list[_Input], ints: str, doubles: str) -> None:
        for each in inputs:
            if ints in each.file.schema_arrow.names:
                low, high = each.bounds(ints)
                if low < -EXACT or high > EXACT:
                    return
        self.folds[ints] = doubles

    def conform(self, table: pa.Table) -> pa.Table:
        """A file's rows in this shape."""
        import pyarrow as pa

        pc = compute()

        present = set(table.column_names)
        held = {name: table[name] for name in present}
        for ints, doubles in self.folds.items():
            if ints in present:
                whole = pc.cast(held[ints], pa.float64())
                held[doubles] = pc.coalesce(held[doubles], whole) if doubles in present else whole
        rows = table.num_rows
        return pa.table(
            [held[field.name] if field.name in held else pa.nulls(rows, field.type) for field in self.schema],
            schema=self.schema,
        )


def _merged(inputs: list[_Input], shape: _Shape) -> Iterator[pa.Table]:
    """The rows of all inputs by time and position, a row group at a time."""
    import numpy as np
    import pyarrow as pa

    keys = [each.keys() for each in inputs]
    counts = [len(times) for times, _ in keys]
    starts = np.cumsum([0, *counts])
    order = np.lexsort((np.concatenate([k[1] for k in keys]), np.concatenate([k[0] for k in keys])))
    del keys
    source = np.searchsorted(starts, order, side="right") - 1
    size = group_rows(len(order), int(sum(each.peek() * n for each, n in zip(inputs, counts, strict=True))))
    taken = np.zeros(len(inputs), np.int64)
    for start in range(0, len(order), size):
        rows, origin = order[start : start + size], source[start : start + size]
        wanted = np.bincount(origin, minlength=len(inputs))
        part = pa.concat_tables(
            shape.conform(each.take(int(n))) for each, n in zip(inputs, wanted, strict=True) if n
        )
        # Each input's rows come in its own order, one after the other: find each among what was taken.
        before = np.cumsum(wanted) - wanted
        index = rows - starts[origin] - taken[origin] + before[origin]
        taken += wanted
        yield part if bool((index[1:] > index[:-1]).all()) else part.take(pa.array(index))
