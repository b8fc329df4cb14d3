"""Which Parquet encoding a column gets: the one that made a sample of it smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .arrow import compute

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DICTIONARY", "SAMPLE", "choose"]

DICTIONARY = "DICTIONARY"
PLAIN = "PLAIN"
SAMPLE = 65_536
"""Enough rows for a dictionary to show what it is worth: its values repeat over a whole row group."""

_SMALL = 512
_REPEATED = 8
"""A column whose values occur so many times on average gets a dictionary without trying."""

_UNIQUE = 0.75
_TEXTS = 8_192
"""Texts that hardly repeat don't need a dictionary; how many of them to try the alternatives on."""

DICTIONARY_BYTES = 4 * 2**20
_FAVOUR = {DICTIONARY: 0.93, "DELTA_LENGTH_BYTE_ARRAY": 0.93, "DELTA_BYTE_ARRAY": 1.12}
"""What a byte counts. A column leaves the two encodings that engines read fastest, the dictionary and texts with
their lengths apart, only for a gain of some 7 %; texts with their beginnings shared take twice the time to read."""


def choose(table: pa.Table) -> dict[str, str]:
    """Column -> encoding, tried on a run of rows from the middle (runs and differences must be as in the file)."""
    middle = table.slice(max(0, (table.num_rows - SAMPLE) // 2), SAMPLE)
    return {
        name: _choose(name, column) for name, column in zip(middle.column_names, middle.columns, strict=True)
    }


def _choose(name: str, column: pa.ChunkedArray) -> str:
    import pyarrow.types as pt

    if name in ("position", "timestamp"):
        return "DELTA_BINARY_PACKED"
    if pt.is_boolean(column.type):
        return PLAIN
    count = len(column) - column.null_count
    if len(column) < _SMALL or not count:
        return DICTIONARY
    distinct = compute().count_distinct(column).as_py()
    if distinct * _REPEATED < count:
        return DICTIONARY
    if pt.is_integer(column.type):
        return _smallest(name, column, ("DELTA_BINARY_PACKED", PLAIN))
    if pt.is_floating(column.type):
        return _smallest(name, column, ("BYTE_STREAM_SPLIT", PLAIN))
    if distinct < count * _UNIQUE:
        return DICTIONARY
    return _smallest(name, column.slice(0, _TEXTS), ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", PLAIN))


def _smallest(name: str, column: pa.ChunkedArray, others: tuple[str, ...]) -> str:
    def weight(encoding: str) -> float:
        return _size(name, column, encoding) * _FAVOUR.get(encoding, 1)

    return min((DICTIONARY, *others), key=weight)


def _size(name: str, column: pa.ChunkedArray, encoding: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    options = options_for({name: encoding})
    with pq.ParquetWriter(sink, pa.schema([(name, column.type)]), **options) as writer:
        writer.write_table(pa.table([column], names=[name]))
    return sink.getvalue().size


def options_for(encodings: dict[str, str]) -> dict[str, Any]:
    """A writer's arguments for these encodings."""
    plain = {name: encoding for name, encoding in encodings.items() if encoding != DICTIONARY}
    return {
        "use_dictionary": [name for name, encoding in encodings.items() if encoding == DICTIONARY] or False,
        "column_encoding": plain or None,
        "compression": "zstd",
        "version": "2.6",
        "data_page_version": "2.0",
        "write_page_checksum": True,
        "store_schema": False,
        "dictionary_pagesize_limit": DICTIONARY_BYTES,
    }
