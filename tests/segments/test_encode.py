"""Encodings: small, and readable by every engine."""

from __future__ import annotations

import io

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bizcode.record import EVENT, MEASURE, Draft
from bizcode.segments import encode

from .conftest import TIME, everything

ROWS = 20_000
dice = np.random.default_rng(7)
COLUMNS = {
    "plan": pa.array(np.array(["free", "pro"])[dice.integers(0, 2, ROWS)]),
    "user": pa.array([f"u{n}" for n in dice.integers(0, 5000, ROWS)]),
    "hex": pa.array([bytes(dice.bytes(8)).hex() for _ in range(ROWS)]),
    "serial": pa.array([f"order-{n:09d}" for n in range(ROWS)]),
    "counter": pa.array(np.cumsum(dice.integers(0, 1000, ROWS))),
    "small": pa.array(dice.integers(0, 9, ROWS)),
    "big": pa.array(dice.integers(-(2**62), 2**62, ROWS)),
    "walk": pa.array(100 + np.cumsum(dice.normal(0, 1, ROWS))),
    "price": pa.array(np.round(dice.random(ROWS) * 100, 2)),
    "flag": pa.array(dice.random(ROWS) < 0.5),
    "some": pa.array([None if n % 3 else float(n) for n in range(ROWS)]),
    "none": pa.nulls(ROWS, pa.string()),
    "timestamp": pa.array(TIME + np.cumsum(dice.integers(0, 10**6, ROWS))).cast(pa.timestamp("us", "UTC")),
}


def weigh(table: pa.Table, **options) -> int:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.tell()


@pytest.mark.parametrize("name", COLUMNS)
def test_the_choice_is_hardly_larger_than_the_best(name):
    table = pa.table({name: COLUMNS[name]})
    chosen = weigh(table, **encode.options_for(encode.choose(table)))
    raw = min(weigh(table, compression="zstd"), weigh(table, compression="zstd", use_dictionary=False))
    assert chosen <= raw * 1.08 + 100


def test_choices_differ_with_the_data():
    chosen = encode.choose(pa.table(COLUMNS))
    assert chosen["plan"] == chosen["small"] == chosen["user"] == chosen["none"] == "DICTIONARY"
    assert chosen["walk"] == "BYTE_STREAM_SPLIT"
    assert chosen["counter"] == chosen["timestamp"] == "DELTA_BINARY_PACKED"
    assert chosen["serial"] == "DELTA_BYTE_ARRAY"
    assert chosen["flag"] == "PLAIN"


@pytest.mark.parametrize("name", COLUMNS)
def test_every_engine_reads_what_was_chosen(tmp_path, name):
    table = pa.table({name: COLUMNS[name]})
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, table.schema, **encode.options_for(encode.choose(table))) as writer:
        writer.write_table(table)
    wanted = table[name]
    if name == "timestamp":
        wanted = wanted.cast(pa.int64())
        found = duckdb.sql(f"SELECT epoch_us(timestamp) AS t FROM '{path}'").to_arrow_table()["t"]
        polars = pl.read_parquet(path)[name].dt.timestamp("us").to_list()
    else:
        found = duckdb.sql(f"SELECT * FROM '{path}'").to_arrow_table()[name]
        polars = pl.read_parquet(path)[name].to_list()
    assert found.to_pylist() == wanted.to_pylist() == polars


def test_sealed_files_are_hardly_larger_than_raw_parquet_of_the_same_columns(store):
    plans, prices = COLUMNS["plan"].to_pylist(), COLUMNS["price"].to_pylist()
    users, walk = COLUMNS["user"].to_pylist(), COLUMNS["walk"].to_pylist()
    store.log.append(
        [
            Draft(
                EVENT,
                "E",
                TIME + n * 700_000,
                f'{{"plan":"{plans[n]}","price":{prices[n]},"n":{n % 7}}}',
                users[n],
            )
            for n in range(ROWS)
        ]
    )
    store.log.append([Draft(MEASURE, "m", TIME + n * 10**7, "{}", value=walk[n]) for n in range(ROWS)])
    store.seal()
    for segment in store.catalog().segments:
        table = pq.read_table(store.directory / segment.file)
        assert segment.bytes <= 1.1 * weigh(table, compression="zstd")
    assert len(everything(store)) == 2 * ROWS
