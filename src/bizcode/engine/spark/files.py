"""Sealed files at a worker: where the statement says, or fetched from the bucket once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["at_hand", "reader"]

BATCH = 65_536


def at_hand(path: str, origin: Sequence[str]) -> str:
    """The path of a file that is the same as one of the driver's; fetched from its origin where there is none.

    Args:
        path: where it lies on the driver's machine, and on this one if both see the directory.
        origin: the bucket's URL and the name in it; empty where there is no other place.
    """
    if not origin or os.path.exists(path):
        return path
    from ...segments.bucket import system_of

    url, name = origin
    kept = Path(tempfile.gettempdir()) / f"bizcode-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    if kept.stat().st_uid != os.getuid():
        raise StorageError(f"{kept} is another's: files fetched from {url} can't be kept there")
    found = kept / f"{hashlib.blake2b(f'{url} {name}'.encode(), digest_size=16).hexdigest()}.parquet"
    if not found.exists():
        # Files never change, so a copy is good for ever; it appears whole.
        with (
            tempfile.NamedTemporaryFile(dir=kept, delete=False) as here,
            system_of(url).open_input_stream(name) as stream,
        ):
            shutil.copyfileobj(stream, here)
        os.replace(here.name, found)
    return str(found)


def reader(
    files: Sequence[tuple[str, Sequence[str]]], columns: Mapping[str, str]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker makes of numbers of files: their rows.

    Args:
        files: of each the path and the origin, as `at_hand` takes them.
        columns: the names and Spark's types of the columns to read; one that a file lacks is null.
    """

    def read(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            "BIGINT": pa.int64(),
            "DOUBLE": pa.float64(),
            "STRING": pa.string(),
            "BOOLEAN": pa.bool_(),
            "TIMESTAMP": pa.timestamp("us", "UTC"),
        }
        schema = pa.schema([(name, types[type]) for name, type in columns.items()])
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                with pq.ParquetFile(at_hand(*files[number]), page_checksum_verification=True) as file:
                    present = [name for name in columns if name in file.schema_arrow.names]
                    # Without a column there would be no rows.
                    for rows in file.iter_batches(BATCH, columns=present or ["position"]):
                        yield pa.RecordBatch.from_arrays(
                            [
                                rows.column(name).cast(types[type])
                                if name in present
                                else pa.nulls(rows.num_rows, types[type])
                                for name, type in columns.items()
                            ],
                            schema=schema,
                        )

    return read
