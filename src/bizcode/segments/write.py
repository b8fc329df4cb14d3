"""Arrow tables into a segment's Parquet file, and the entry that the catalog gets for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from . import encode, files
from .arrow import compute
from .catalog import Segment
from .place import Place
from .schema import REST, Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GROUP", "METADATA", "group_rows", "write"]

GROUP = 122_880
"""Rows of a row group."""

GROUP_BYTES = 128 * 2**20
METADATA = b"bizcode"
_REST_NAMES = 64


def group_rows(rows: int, size: int) -> int:
    """Rows of a row group, fewer where rows are big."""
    return max(1, min(GROUP, GROUP_BYTES * rows // max(size, 1)))


def write(
    place: Place,
    kind: str,
    name: str,
    first: int,
    columns: Iterable[Column],
    tables: Iterable[pa.Table],
    sample: pa.Table,
) -> Segment:
    """Write a new file of tables that are sorted and share a schema, each a row group, and describe it.

    Args:
        place: where the store's files lie; there it is shown to everybody.
        first: no record has a position below.
        columns: the leaf columns among those of the tables.
        sample: rows to choose the encodings from.
    """
    import pyarrow.parquet as pq

    leaves = {c.column: [list(c.path), c.type, c.column] for c in columns}
    metadata = {"format": 1, "kind": kind, "name": name, "columns": list(leaves.values())}
    schema = sample.schema.remove_metadata()
    options: dict[str, Any] = encode.options_for(encode.choose(sample))
    facts = _Facts()
    id, file = files.relative(kind, name, first)
    with files.new_file(place.directory / file) as temporary:
        with pq.ParquetWriter(temporary, schema, **options) as writer:
            writer.add_key_value_metadata({METADATA.decode(): orjson.dumps(metadata).decode()})
            for table in tables:
                facts.add(table)
                writer.write_table(
                    table.replace_schema_metadata(schema.metadata), row_group_size=table.num_rows
                )
        checksum = files.checksum(temporary)
        size = temporary.stat().st_size
    try:
        place.publish(file)
    except BaseException:
        place.remove(file)
        raise
    return Segment(
        id,
        kind,
        name,
        file,
        facts.rows,
        facts.first,
        facts.last,
        facts.low,
        facts.high,
        size,
        checksum,
        frozenset(name for name in schema.names if name in leaves or name in ("value", "value:int")),
        facts.rest_names(),
        facts.users,
    )


class _Facts:
    """What the catalog wants to know, gathered while tables pass."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = self.low = 2**63
        self.last = self.high = -(2**63)
        self.users = False
        self._rest: dict[str, None] = {}

    def add(self, table: pa.Table) -> None:
        pc = compute()

        self.rows += table.num_rows
        positions = pc.min_max(table["position"]).as_py()
        times = pc.min_max(table["timestamp"].cast("int64")).as_py()
        self.first, self.last = min(self.first, positions["min"]), max(self.last, positions["max"])
        self.low, self.high = min(self.low, times["min"]), max(self.high, times["max"])
        self.users = self.users or table["user"].null_count < table.num_rows
        if table[REST].null_count < table.num_rows and len(self._rest) <= _REST_NAMES:
            for text in pc.unique(table[REST]).to_pylist():
                if text is not None:
                    self._rest.update(dict.fromkeys(orjson.loads(text)))

    def rest_names(self) -> tuple[str, ...] | None:
        """The top-level properties that occur in the rest, as a segment lists them."""
        if not self._rest:
            return None
        return ("*",) if len(self._rest) > _REST_NAMES else tuple(self._rest)
