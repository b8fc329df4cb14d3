"""Views kept up to date: records per second, one more record at a hundredth of the history, a key's lookup."""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from typing import Any

GROUPS = 10_000


def records(n: int) -> list[dict[str, Any]]:
    """Purchases of 10,000 users."""
    rng = random.Random(1)
    return [
        {"event": "P", "data": {"user_id": f"u{rng.randrange(GROUPS)}", "amount": rng.randrange(100)}}
        for _ in range(n)
    ]


def median(times: list[float]) -> float:
    """The middle one."""
    return sorted(times)[len(times) // 2]


def one_more(n: int) -> tuple[float, float]:
    """Milliseconds of a look after one more record on n records, and of a key's lookup without."""
    from bizcode import Business

    with Business(":memory:", worker=False) as biz:
        for start in range(0, n, 100_000):
            biz.track.batch(records(min(100_000, n - start)))
        biz.store.segments.compact()
        biz.view.define(
            "v", source=biz.track.P, group_by="user_id", compute=dict(total=biz.sum("amount"), n=biz.count())
        )
        biz.view.v.get().run()
        times, lookups = [], []
        for k in range(60):
            biz.track.P(user_id=f"u{k}", amount=1)
            begun = time.perf_counter()
            biz.view.v.get(f"u{k}").run()
            times.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for j in range(20):
                biz.view.v.get(f"u{j}").run()
            lookups.append((time.perf_counter() - begun) / 20)
        return median(times) * 1e3, median(lookups) * 1e6


def main(n: int = 1_000_000) -> None:
    """Prints the figures."""
    from bizcode import Business

    print(f"views: {n:,} records of {GROUPS:,} groups, sum and count")
    rows = records(n)
    begun = time.perf_counter()
    found: dict[str, list[int]] = {}
    for row in rows:
        data = row["data"]
        group = found.setdefault(data["user_id"], [0, 0])
        group[0] += data["amount"]
        group[1] += 1
    loop = n / (time.perf_counter() - begun)
    with Business(":memory:", worker=False) as biz:
        biz.view.define(
            "v", source=biz.track.P, group_by="user_id", compute=dict(total=biz.sum("amount"), n=biz.count())
        )
        biz.view.v.get().run()
        seconds = 0.0
        for start in range(0, n, 20_000):
            biz.track.batch(rows[start : start + 20_000])
            begun = time.perf_counter()
            biz.view.v.get("u1").run()
            seconds += time.perf_counter() - begun
        assert {row.user_id: [row.total, row.n] for row in biz.view.v.get().run()} == found
    print(
        f"  into the view {n / seconds:,.0f}/s; a Python dict loop {loop:,.0f}/s; ratio {n / seconds / loop:.2f}"
    )
    (few, _), (many, ours) = one_more(n // 100), one_more(n)
    print(
        f"  a look after one more record: {many:.2f} ms on {n:,} records, {few:.2f} ms on {n // 100:,}; ratio {many / few:.2f}"
    )
    raw = sqlite3.connect(":memory:")
    raw.execute("create table v (k text primary key, total int, n int)")
    raw.executemany("insert into v values (?, ?, ?)", [(k, *v) for k, v in found.items()])
    begun = time.perf_counter()
    for j in range(2_000):
        raw.execute("select * from v where k = ?", (f"u{j}",)).fetchone()
    theirs = (time.perf_counter() - begun) / 2_000 * 1e6
    print(f"  a key's lookup {ours:.0f} µs; raw SQLite {theirs:.1f} µs; ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
