"""One Parquet file: how it is encoded, written durably, and read in parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import StorageError

__all__ = ["SegmentFile", "checksum", "directory_of", "write"]

ROW_GROUP = 122_880
_SAMPLE = 20_000


def directory_of(kind: str, name: str) -> str:
    """Where the segments of a name lie, below the store's directory."""
    escaped = quote(name, safe=" ").replace(".", "%2E")
    return f"segments/{kind}/{escaped[:150] if len(escaped) <= 150 else _short(escaped)}"


def _short(text: str) -> str:
    return f"{text[:100]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def checksum(path: Path) -> str:
    """BLAKE2 of a file's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write(table: Any, path: Path) -> None:
    """Write a table and sync it to the disk. Raises StorageError; nothing half-written stays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    dictionary, encoding = _encodings(table)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                row_group_size=ROW_GROUP,
                use_dictionary=dictionary or False,
                column_encoding=encoding,
                data_page_version="2.0",
                write_statistics=True,
                dictionary_pagesize_limit=8 << 20,
                sorting_columns=[pq.SortingColumn(1), pq.SortingColumn(0)],
            )
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync_directory(path.parent)
    except (OSError, pa.ArrowException) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path.parent} can't be written: {error}") from error


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encodings(table: Any) -> tuple[list[str], dict[str, str]]:
    """For each column the smaller of dictionary and the type's own encoding, found on a sample."""
    import pyarrow as pa

    dictionary: list[str] = []
    encoding: dict[str, str] = {}
    step = max(1, table.num_rows // _SAMPLE)
    start = (table.num_rows - min(table.num_rows, _SAMPLE)) // 2
    sample = table.slice(start, _SAMPLE) if step > 1 else table
    for name in table.column_names:
        kind = table.schema.field(name).type
        if pa.types.is_floating(kind):
            own = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
            own = "DELTA_BINARY_PACKED"
        elif pa.types.is_boolean(kind):
            continue
        else:
            own = "PLAIN"
        column = sample.select([name])
        if name == "position" or _size(column, False, own) <= _size(column, True, None):
            encoding[name] = own
        else:
            dictionary.append(name)
    return dictionary, encoding


def _size(column: Any, dictionary: bool, own: str | None) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    name = column.column_names[0]
    pq.write_table(
        column,
        sink,
        compression="zstd",
        use_dictionary=dictionary,
        column_encoding=None if own is None else {name: own},
        data_page_version="2.0",
        write_statistics=False,
    )
    return sink.getvalue().size


class SegmentFile:
    """Reads the parts of a file that may hold certain positions or times."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self.file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"the segment {path.name} can't be read; `bizcode doctor` tells more: {error}"
            ) from error
        self.path = path
        self._cached: dict[int, Any] = {}
        metadata = self.file.metadata
        index = self.file.schema_arrow.get_field_index("position")
        self.groups: list[tuple[int, int]] = []
        for n in range(metadata.num_row_groups):
            statistics = metadata.row_group(n).column(index).statistics
            self.groups.append((statistics.min, statistics.max))

    def rows(self, low: int, high: int) -> Any:
        """The rows with low <= position <= high, None if there are none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = [n for n, (first, last) in enumerate(self.groups) if first <= high and last >= low]
        self._cached = {n: table for n, table in self._cached.items() if self.groups[n][1] >= low}
        parts = []
        for n in wanted:
            table = self._cached.get(n)
            if table is None:
                table = self._cached[n] = self._group(n)
            position = table.column("position")
            parts.append(
                table.filter(pc.and_(pc.greater_equal(position, low), pc.less_equal(position, high)))
            )
        found = pa.concat_tables(parts) if parts else None
        return found if found is not None and found.num_rows else None

    def at(self, positions: Iterable[int]) -> Any:
        """The rows with these positions, None if there are none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = sorted(positions)
        values = pa.array(wanted, pa.int64())
        parts = []
        for n, (first, last) in enumerate(self.groups):
            if first <= wanted[-1] and last >= wanted[0] and any(first <= p <= last for p in wanted):
                table = self._group(n)
                parts.append(table.filter(pc.is_in(table.column("position"), values)))
        found = pa.concat_tables(parts) if parts else None
        return found if found is not None and found.num_rows else None

    def _group(self, n: int) -> Any:
        import pyarrow as pa

        try:
            return self.file.read_row_group(n)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"the segment {self.path.name} can't be read; `bizcode doctor` tells more: {error}"
            ) from error
