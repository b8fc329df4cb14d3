"""`sum().since("year").by("month")` of a metric with rollups beside the same question put to its samples, and to
the samples' files in hand-written SQL. Asked again of a tenth of the samples: rollups cost by the buckets."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from bizcode import Business, ManualClock
from bizcode.record import Draft

from .queries import START, clocked

YEAR = 366 * 86_400_000_000
PLANS = ("free", "pro", "team")


def fill(biz: Business, samples: int) -> None:
    """A year of samples in order of time, through the log's batches into segments."""
    rng = random.Random(1)
    step = YEAR // samples
    tags = [f'{{"plan":"{plan}"}}' for plan in PLANS]
    log, segments = biz.store.log, biz.store.segments
    for first in range(0, samples, 500_000):
        numbers = range(first, min(samples, first + 500_000))
        for start in range(0, len(numbers), 20_000):
            log.append(
                [
                    Draft(
                        "measure", "revenue", START + n * step, tags[n % 3], value=rng.randrange(10_000) / 100
                    )
                    for n in numbers[start : start + 20_000]
                ]
            )
        segments.seal()
    segments.merge(all=True)


def measured(directory: Path, samples: int, repeat: int) -> tuple[float, float, float, float, float]:
    """Milliseconds of hand-written SQL, the raw question, the rollup's, the same after one more write, and seconds
    to fill the rollup."""
    import duckdb

    clock = ManualClock((START + YEAR - 1) / 1e6)
    with Business(directory, worker=False, clock=clock) as biz:
        fill(biz, samples)
        question = biz.measure.revenue.sum().since("year").by("month")
        files = [
            f"'{biz.store.directory / s.file}'" for s in biz.store.segments.catalog().of("measure", "revenue")
        ]
        raw = duckdb.connect()
        raw.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true;")
        sql = f"SELECT month(timestamp), sum(value) FROM read_parquet([{', '.join(files)}]) GROUP BY 1"
        by_hand = clocked(lambda: raw.execute(sql).fetchall(), repeat)
        plain = clocked(question.run, repeat)
        expected = question.run()
        start = time.perf_counter()
        biz.measure.revenue.rollup(granularity=["hour", "day", "month"], aggregates=["sum", "count", "avg"])
        biz.drain()
        filled = time.perf_counter() - start
        rolled = clocked(question.run, repeat)
        found = question.run()
        assert list(found) == list(expected)
        assert all(abs(found[key] - expected[key]) <= 1e-9 * abs(expected[key]) for key in found)
        times = []
        for _ in range(repeat):
            biz.measure.revenue(1.5, plan="pro")
            start = time.perf_counter()
            question.run()
            times.append((time.perf_counter() - start) * 1000)
        return by_hand, plain, rolled, sorted(times)[repeat // 2], filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5_000_000, help="50_000_000 takes about ten minutes")
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    print(f'sum().since("year").by("month"), median of {given.repeat}; ms')
    print(f"{'samples':>14}{'raw DuckDB':>12}{'raw':>10}{'rollup':>10}{'+1 write':>10}{'fill, s':>10}")
    for samples in (given.samples // 10, given.samples):
        directory = Path(tempfile.mkdtemp(prefix="bizcode-bench-"))
        try:
            row = measured(directory / "acme", samples, given.repeat)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        print(
            f"{samples:14,}{row[0]:12.1f}{row[1]:10.1f}{row[2]:10.1f}{row[3]:10.1f}{row[4]:10.1f}", flush=True
        )


if __name__ == "__main__":
    main()
