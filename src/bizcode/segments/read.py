"""Sealed records read back from their files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ..errors import StorageError
from ..record import Stored
from .catalog import Catalog, Segment
from .place import Place
from .schema import FIXED, Column
from .text import put_together
from .write import METADATA

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["Damaged", "Files", "Group", "columns_of", "damaged", "group_ranges", "open_file", "stored"]

_CACHED_BYTES = 64 * 2**20


class Damaged(StorageError):
    """A segment's file is missing or can't be read."""

    def __init__(self, message: str, segment: Segment) -> None:
        super().__init__(message)
        self.segment = segment


def open_file(place: Place, segment: Segment, metadata: Any = None) -> pq.ParquetFile:
    """A segment's file. Raises StorageError that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(place.local(segment.file), metadata=metadata, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise damaged(place, segment, error) from error


def damaged(place: Place, segment: Segment, error: Exception) -> Damaged:
    """What a reader of a broken segment is told."""
    missing = isinstance(error, FileNotFoundError)
    what = "is missing" if missing else f"can't be read ({str(error).splitlines()[0]})"
    return Damaged(
        f"the segment {place.shown}/{segment.file.partition('/')[2]} {what}: it holds {segment.rows} records of "
        f"{segment.kind} {segment.name!r}, positions {segment.first_position} to {segment.last_position}; "
        "restore it from a backup, everything else stays readable",
        segment,
    )


def columns_of(file: pq.ParquetFile) -> list[Column]:
    """The leaf columns of a file, by its own account."""
    held = orjson.loads(file.metadata.metadata[METADATA])
    return [Column(tuple(path), type, name, 0, 0, 0, 0) for path, type, name in held["columns"]]


class Range(NamedTuple):
    """What a row group may hold, by the footer's statistics."""

    first: int
    last: int
    low: int
    high: int
    rows: int


def group_ranges(metadata: Any) -> list[Range]:
    """The ranges of position and time of each row group."""
    found = []
    for n in range(metadata.num_row_groups):
        group = metadata.row_group(n)
        position, time = group.column(0).statistics, group.column(1).statistics
        found.append(
            Range(
                int(position.min_raw),
                int(position.max_raw),
                int(time.min_raw),
                int(time.max_raw),
                group.num_rows,
            )
        )
    return found


def stored(table: pa.Table, kind: str, name: str, columns: Iterable[Column]) -> list[Stored]:
    """The records of a file's rows, in their order."""
    fixed = FIXED[kind]

    def values(column: str) -> Iterable[Any]:
        if column not in fixed or column not in table.column_names:
            return repeat(None, table.num_rows)
        if table[column].null_count == table.num_rows:
            return repeat(None, table.num_rows)
        return table[column].to_pylist()

    number = values("value")
    if "value:int" in fixed and "value:int" in table.column_names:
        whole = values("value:int")
        number = [real if integer is None else integer for integer, real in zip(whole, number, strict=True)]
    return list(
        map(
            partial(tuple.__new__, Stored),
            zip(
                table["position"].to_pylist(),
                repeat(kind),
                repeat(name),
                table["timestamp"].cast("int64").to_pylist(),
                put_together(table, columns),
                values("user"),
                values("id"),
                values("entity"),
                values("version"),
                number,
                values("experiments"),
            ),
        )
    )


class Group:
    """A decoded row group in order of position."""

    __slots__ = ("bytes", "columns", "positions", "segment", "table")

    def __init__(self, segment: Segment, table: pa.Table, columns: list[Column]) -> None:
        import numpy as np
        import pyarrow as pa

        positions = table["position"].to_numpy()
        if len(positions) > 1 and not (positions[1:] > positions[:-1]).all():
            order = np.argsort(positions)
            table = table.take(pa.array(order))
            positions = positions[order]
        self.segment = segment
        self.columns = columns
        self.positions: np.ndarray = positions
        self.table = table.combine_chunks()
        self.bytes = table.nbytes

    def between(self, after: int, until: int) -> list[Stored]:
        """Records with after < position <= until."""
        start, end = self.positions.searchsorted((after, until), side="right").tolist()
        if start == end:
            return []
        return stored(
            self.table.slice(start, end - start), self.segment.kind, self.segment.name, self.columns
        )

    def at(self, wanted: np.ndarray) -> list[Stored]:
        """Records at some of the positions, which are sorted."""
        import numpy as np
        import pyarrow as pa

        index = np.flatnonzero(np.isin(self.positions, wanted, assume_unique=True))
        if not len(index):
            return []
        return stored(self.table.take(pa.array(index)), self.segment.kind, self.segment.name, self.columns)


class Files:
    """The files of a store: footers kept, and the row groups decoded last."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._footers: dict[str, tuple[Any, list[Range], list[Column]]] = {}
        self._groups: OrderedDict[tuple[str, int], Group] = OrderedDict()
        self._bytes = 0

    def forget(self, catalog: Catalog) -> None:
        """Drop what belongs to files that the catalog no longer names."""
        with self._lock:
            files = {segment.file for segment in catalog.segments}
            for file in self._footers.keys() - files:
                del self._footers[file]
            for key in [key for key in self._groups if key[0] not in files]:
                self._bytes -= self._groups.pop(key).bytes

    def footer(self, segment: Segment) -> tuple[Any, list[Range], list[Column]]:
        """A file's metadata, its row groups' ranges, its columns."""
        known = self._footers.get(segment.file)
        if known is None:
            file = open_file(self.place, segment)
            with file:
                known = (file.metadata, group_ranges(file.metadata), columns_of(file))
            with self._lock:
                self._footers[segment.file] = known
        return known

    def positions(self, segment: Segment) -> np.ndarray:
        """The positions of a file's records, in its order."""
        import pyarrow as pa

        with open_file(self.place, segment, self.footer(segment)[0]) as file:
            try:
                return file.read(["position"], use_threads=False)["position"].to_numpy()
            except (OSError, pa.ArrowException) as error:
                raise damaged(self.place, segment, error) from error

    def holding(self, segments: Iterable[Segment], wanted: np.ndarray) -> list[Segment]:
        """The segments that may hold one of the positions, which are sorted."""
        return [s for s in segments if _any(wanted, s.first_position, s.last_position)]

    def group(self, segment: Segment, number: int, keep: bool) -> Group:
        """One decoded row group; `keep`: it may be asked for again."""
        import pyarrow as pa

        key = (segment.file, number)
        with self._lock:
            known = self._groups.get(key)
            if known is not None:
                self._groups.move_to_end(key)
                return known
        metadata, _, columns = self.footer(segment)
        with open_file(self.place, segment, metadata) as file:
            try:
                table = file.read_row_group(number, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise damaged(self.place, segment, error) from error
        found = Group(segment, table, columns)
        if keep and found.bytes <= _CACHED_BYTES // 2:
            with self._lock:
                if key not in self._groups:
                    self._groups[key] = found
                    self._bytes += found.bytes
                while self._bytes > _CACHED_BYTES:
                    self._bytes -= self._groups.popitem(last=False)[1].bytes
        return found

    def at(self, segments: Iterable[Segment], positions: Iterable[int]) -> list[Stored]:
        """Those of the positions that lie in the segments, in order."""
        import numpy as np

        wanted = np.unique(np.fromiter(positions, np.int64))
        found: list[Stored] = []
        for segment in self.holding(segments, wanted):
            _, ranges, _ = self.footer(segment)
            for n, part in enumerate(ranges):
                if _any(wanted, part.first, part.last):
                    found += self.group(segment, n, True).at(wanted)
        found.sort()
        return found


def _any(wanted: np.ndarray, first: int, last: int) -> bool:
    start, end = wanted.searchsorted(first), wanted.searchsorted(last, side="right")
    return bool(end > start)
