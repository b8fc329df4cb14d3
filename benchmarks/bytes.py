"""Bytes on disk: of sealed events against raw Parquet of the same columns, of float series against Gorilla.

    python -m benchmarks.bytes [rows]

"raw" is the smallest that pyarrow alone makes of the same table with zstd: its defaults, its defaults with
data page version 2, and every column in the encoding made for its type. "Gorilla" is that codec, weighed here
on the same points (timestamps in ms, as it takes them); "to 1.37" is against its published figure.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bizcode.log.sqlite import open_log
from bizcode.record import EVENT, MEASURE, Draft
from bizcode.segments import SegmentStore

START = 1_700_000_000_000_000
GORILLA = 1.37
"""Bytes per point published by Pelkonen et al., VLDB 2015, on metrics of data centres, which mostly repeat."""

__all__ = ["Size", "main", "measure"]


class Size(NamedTuple):
    """Bytes per record of one data set: sealed, raw Parquet of the same columns; of a series also timestamp and
    value alone, and what Gorilla makes of them."""

    what: str
    sealed: float
    raw: float
    point: float | None = None
    gorilla: float | None = None


def measure(rows: int = 500_000) -> list[Size]:
    """Seal each data set and weigh it."""
    sizes = [_weigh("event, 5 properties", _events(rows))]
    for name, (times, values) in _series(rows).items():
        size = _weigh(name, _points(name, times, values))
        sizes.append(size._replace(gorilla=_gorilla(times, values) / rows))
    return sizes


def _events(rows: int) -> Iterable[Draft]:
    random = np.random.default_rng(1)
    users = random.zipf(1.3, rows) % 200_000
    plans = np.array(["free", "pro", "team", "enterprise"])[random.integers(0, 4, rows)]
    paths = np.array([f"/page/{n}" for n in range(300)])[random.zipf(1.5, rows) % 300]
    amounts = np.round(random.gamma(2, 40, rows), 2)
    times = START + np.cumsum(random.exponential(800_000, rows)).astype(np.int64)
    items = random.integers(1, 9, rows)
    columns = (users, plans, paths, amounts, times, items)
    for user, plan, path, amount, time, count in zip(*(c.tolist() for c in columns), strict=True):
        data = {"user_id": f"u{user}", "plan": plan, "path": path, "amount": amount, "items": count}
        yield Draft(EVENT, "Purchase", time, orjson.dumps(data).decode(), f"u{user}")


def _series(rows: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(2)
    times = START + np.arange(rows, dtype=np.int64) * 10_000_000
    walk = 100 + np.cumsum(random.normal(0, 0.1, rows))
    jitter = times + random.integers(-50_000, 50_001, rows)
    changes = np.cumsum(np.where(random.random(rows) < 0.01, random.integers(-3, 4, rows), 0)) + 50
    return {
        "full-precision walk": (times, walk),
        "walk of 2 decimals": (times, np.round(walk, 2)),
        "the same, times jittered by 50 ms": (jitter, np.round(walk, 2)),
        "integer noise": (times, random.integers(0, 32, rows).astype(float)),
        "1 % changes": (times, changes.astype(float)),
    }


def _points(name: str, times: np.ndarray, values: np.ndarray) -> Iterable[Draft]:
    for time, value in zip(times.tolist(), values.tolist(), strict=True):
        yield Draft(MEASURE, name, time, "{}", value=value)


def _weigh(what: str, drafts: Iterable[Draft]) -> Size:
    with tempfile.TemporaryDirectory() as directory:
        log = open_log(directory)
        held = list(drafts)
        for n in range(0, len(held), 50_000):
            log.append(held[n : n + 50_000])
        store = SegmentStore(Path(directory), log)
        store.seal()
        store.merge(all=True)
        segments = store.catalog().segments
        rows = sum(segment.rows for segment in segments)
        sealed = sum(segment.bytes for segment in segments)
        raw = point = 0
        for segment in segments:
            file = pq.ParquetFile(Path(directory) / segment.file)
            raw += _raw(file.read())
            if "value" in segment.columns:
                point += _bytes_of(file, ("timestamp", "value"))
        log.close()
    return Size(what, sealed / rows, raw / rows, point / rows or None)


def _bytes_of(file: pq.ParquetFile, columns: tuple[str, ...]) -> int:
    groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
    chunks = [group.column(n) for group in groups for n in range(group.num_columns)]
    return sum(c.total_compressed_size for c in chunks if c.path_in_schema in columns)


def _gorilla(times: np.ndarray, values: np.ndarray) -> float:
    """Bytes of the series in Gorilla's encoding (section 4.1 of the paper)."""
    second = np.abs(np.diff(np.diff(times // 1000)))
    limits, widths = np.array([0, 63, 255, 2047]), np.array([1, 9, 12, 16, 36])
    bits = int(widths[np.searchsorted(limits, second)].sum())
    raw = values.view(np.uint64)
    leading, trailing = 65, 0
    for x in (raw[1:] ^ raw[:-1]).tolist():
        if not x:
            bits += 1
            continue
        lead, trail = min(64 - x.bit_length(), 31), (x & -x).bit_length() - 1
        if lead >= leading and trail >= trailing:
            bits += 2 + 64 - leading - trailing
        else:
            leading, trailing = lead, trail
            bits += 2 + 5 + 6 + 64 - lead - trail
    return bits / 8


def _raw(table: pa.Table) -> int:
    made_for = {}
    for field in table.schema:
        if pa.types.is_floating(field.type):
            made_for[field.name] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type):
            made_for[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(field.type):
            made_for[field.name] = "DELTA_BYTE_ARRAY"
    tries = (
        {},
        {"data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": made_for},
    )
    return min(_written(table, **options) for options in tries)


def _written(table: pa.Table, **options: object) -> int:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)  # type: ignore[arg-type]
    return sink.tell()


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    print(f"{rows:,} records each; bytes per record")
    head = f"{'sealed':>8}{'raw':>8}{'ratio':>7}{'per point':>11}{'Gorilla':>9}{'ratio':>7}"
    print(f"{'':36}{head}{f'to {GORILLA}':>9}")
    for what, sealed, raw, point, gorilla in measure(rows):
        line = f"{what:36}{sealed:8.2f}{raw:8.2f}{sealed / raw:7.2f}"
        if point is not None and gorilla is not None:
            line += f"{point:11.2f}{gorilla:9.2f}{point / gorilla:7.2f}{point / GORILLA:9.2f}"
        print(line)


if __name__ == "__main__":
    main()
