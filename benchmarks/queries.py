"""Questions beside the best hand-written SQL on the same Parquet files, over 10 million events."""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bizcode import Business, ManualClock

DAY = 86_400_000_000
START = 1_704_067_200_000_000
NAMES = ("PageView", "Signup", "Purchase")


def fill(biz: Business, events: int, users: int, days: int = 90) -> None:
    """Events with jittered times (whole milliseconds, as browsers give them), straight into segments.

    Loading 10 million events through the door would take minutes and measure nothing here: the rows go
    through the sealing code as they would from the tail.
    """
    batch = 500_000
    rng = random.Random(1)
    plans = ("free", "pro", "team")
    step = days * DAY // events
    at = START
    for first in range(0, events, batch):
        drafts = []
        for n in range(first, min(events, first + batch)):
            at += step
            roll = rng.random()
            name = NAMES[0] if roll < 0.85 else NAMES[1] if roll < 0.92 else NAMES[2]
            moment = (at + rng.randrange(-step * 50, step * 50)) // 1000 * 1000
            data = f'{{"user_id":"u{rng.randrange(users)}","plan":"{plans[n % 3]}","amount":{rng.randrange(10000) / 100}}}'
            drafts.append((name, moment, data))
        _append(biz, drafts)
        biz.store.segments.seal()
    biz.store.segments.merge(all=True)


def _append(biz: Business, rows: list[tuple[str, int, str]]) -> None:
    from bizcode.record import Draft

    log = biz.store.log
    for first in range(0, len(rows), 20_000):
        log.append(
            [
                Draft("event", name, at, data, data[12 : data.index('"', 12)])
                for name, at, data in rows[first : first + 20_000]
            ]
        )


def clocked(function: Callable[[], Any], repeat: int) -> float:
    """Milliseconds, the median after one run to warm up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def files(biz: Business, *names: str) -> str:
    found = [s.file for name in names for s in biz.store.segments.catalog().of("event", name)]
    return "[" + ", ".join(f"'{biz.store.directory / file}'" for file in found) + "]"


def compare(biz: Business, repeat: int) -> list[tuple[str, float, float]]:
    """(what, raw ms, bizcode ms)."""
    import duckdb

    raw = duckdb.connect()
    raw.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true;")
    views = f"read_parquet({files(biz, 'PageView')})"
    week = START + 83 * DAY
    cases: list[tuple[str, str, Any]] = [
        ("count of all", f"SELECT count(*) FROM {views}", biz.track.PageView.count()),
        (
            "count of the last 7 days",
            f"SELECT count(*) FROM {views} WHERE timestamp >= make_timestamptz({week}::BIGINT)",
            biz.track.PageView.count().since("7d"),
        ),
        ("sum of a property", f"SELECT sum(amount) FROM {views}", biz.track.PageView.sum("amount")),
        (
            "count by a property",
            f"SELECT plan, count(*) FROM {views} GROUP BY 1",
            biz.track.PageView.count().by("plan"),
        ),
        (
            "count by day",
            f"SELECT epoch_us(timestamp) // {DAY} AS day, count(*) FROM {views} GROUP BY 1",
            biz.track.PageView.count().by("day"),
        ),
        ("distinct users", f'SELECT count(DISTINCT "user") FROM {views}', biz.track.PageView.unique()),
    ]
    found = []
    for what, sql, query in cases:
        theirs = clocked(lambda sql=sql: raw.execute(sql).fetchall(), repeat)
        ours = clocked(query.run, repeat)
        found.append((what, theirs, ours))
    return found


def after_a_write(biz: Business, repeat: int) -> tuple[float, float]:
    """(the query as it was, the same just after one more write), ms."""
    query = biz.track.PageView.count().by("plan")
    plain = clocked(query.run, repeat)
    times = []
    for _ in range(repeat):
        biz.track.PageView(user_id="u1", plan="pro", amount=1.5)
        start = time.perf_counter()
        query.run()
        times.append((time.perf_counter() - start) * 1000)
    return plain, median(times)


def started(store: Path) -> dict[str, float]:
    """Milliseconds of whole processes: importing, opening and a first count."""
    cases = {
        "import duckdb": "import duckdb",
        "import bizcode": "import bizcode",
        "open and first count": f"from bizcode import Business; Business({str(store)!r}, worker=False).track.PageView.count().run()",
    }
    return {
        name: clocked(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True), 5)
        for name, code in cases.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bizcode-bench-"))
    try:
        with Business(directory / "acme", worker=False, clock=ManualClock(START / 1e6 + 90 * 86400)) as biz:
            fill(biz, given.events, given.users)
            print(f"{given.events:,} events, {given.users:,} users; median of {given.repeat}; ms")
            print(f"{'':28}{'raw DuckDB':>12}{'bizcode':>12}{'ratio':>8}")
            for what, theirs, ours in compare(biz, given.repeat):
                print(f"{what:28}{theirs:12.1f}{ours:12.1f}{ours / theirs:8.2f}")
            plain, after = after_a_write(biz, given.repeat)
            print(f"{'after one more write':28}{plain:12.1f}{after:12.1f}{after - plain:+8.1f} ms")
        for name, ms in started(directory / "acme").items():
            print(f"{name:28}{'':12}{ms:12.1f}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
