"""Views kept up to date, beside a plain dict, raw DuckDB and raw SQLite.

What is timed is from records that are in the log to rows that are read: their writing is not in it (see
`benchmarks.writes`), and neither is the dict's. The two throughputs and the first looks are by the CPU's time of the
process, so that they are those of one core whatever else the machine does.
"""

from __future__ import annotations

import gc
import random
import sqlite3
import sys
import tempfile
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


def define(biz: Any, **compute: Any) -> Any:
    """A view by user."""
    return biz.view.define("v", source=biz.track.P, group_by="user_id", compute=compute)


def look(view: Any, key: str) -> float:
    """Seconds of one lookup."""
    begun = time.perf_counter()
    view.get(key).run()
    return time.perf_counter() - begun


def first_look(biz: Any, view: Any) -> float:
    """Milliseconds of the CPU that a first look takes, the engine's start not among them."""
    with biz.store.engine.session():
        pass
    begun = time.process_time()
    look(view, "u1")
    return (time.process_time() - begun) * 1e3


def standing(n: int) -> dict[str, float]:
    """Milliseconds of looks at a view of n sealed records after one thing each."""
    from bizcode import Business

    with tempfile.TemporaryDirectory() as path:
        with Business(path, worker=False) as biz:
            for start in range(0, n, 100_000):
                biz.track.batch(records(min(100_000, n - start)))
            biz.store.segments.compact()
            found = {"first": first_look(biz, define(biz, total=biz.sum("amount"), n=biz.count()))}
        with Business(path, worker=False) as biz:
            found["later"] = first_look(biz, biz.view.v)
            return found | followed(biz)


def followed(biz: Any) -> dict[str, float]:
    """The same of a view that a process has looked at before."""
    ids = [biz.track.P(user_id=f"u{k}", amount=-1 - k).id for k in range(20)]
    biz.store.segments.compact()
    view = biz.view.v
    least = biz.view.define(
        "least", source=biz.track.P, group_by="user_id", compute=dict(low=biz.min("amount"))
    )
    look(least, "u1")
    more, lookups, taken, theirs = [], [], [], []
    for k in range(60):
        biz.track.P(user_id=f"u{k}", amount=1)
        more.append(look(view, f"u{k}"))
        lookups.append(sum(look(view, f"u{j}") for j in range(20)) / 20)
    for k, id in enumerate(ids):
        biz.retract(id)
        taken.append(look(least, f"u{k}"))
    with biz.store.engine.session() as session:
        files = [str(biz.store.segments.place.local(s.file)) for s in session.view.catalog.segments]
        for k in range(20):
            begun = time.perf_counter()
            session.cursor.execute(
                "SELECT min(amount) FROM read_parquet($1, union_by_name = true) WHERE user_id = $2",
                [[file for file in files if "/P/" in file] or files, f"u{k}"],
            ).fetchall()
            theirs.append(time.perf_counter() - begun)
    found = {"more": median(more) * 1e3, "lookup": median(lookups) * 1e6}
    return found | {"taken": median(taken) * 1e3, "raw": median(theirs) * 1e3}


def main(n: int = 1_000_000) -> None:
    """Prints the figures."""
    from bizcode import Business

    print(f"views: {n:,} records of {GROUPS:,} groups, sum and count")
    rows = records(n)
    # A collection of garbage among them takes a second and would fall on whatever is timed just then.
    gc.freeze()
    begun = time.process_time()
    found: dict[str, list[int]] = {}
    for row in rows:
        data = row["data"]
        group = found.setdefault(data["user_id"], [0, 0])
        group[0] += data["amount"]
        group[1] += 1
    loop = n / (time.process_time() - begun)
    with Business(":memory:", worker=False) as biz:
        view = define(biz, total=biz.sum("amount"), n=biz.count())
        view.get().run()
        seconds = 0.0
        for start in range(0, n, 20_000):
            biz.track.batch(rows[start : start + 20_000])
            begun = time.process_time()
            view.get("u1").run()
            seconds += time.process_time() - begun
        begun = time.process_time()
        shown = view.get().run()
        seconds += time.process_time() - begun
        assert {row.user_id: [row.total, row.n] for row in shown} == found
    print(
        f"  20,000 at a time into the view, read by a key after each and whole at the end: {n / seconds:,.0f}/s; "
        f"a Python dict loop {loop:,.0f}/s; ratio {n / seconds / loop:.2f}"
    )
    few, many = standing(n // 100), standing(n)
    ours = many["lookup"]
    print(
        f"  a look after one more record: {many['more']:.2f} ms on {n:,} records, {few['more']:.2f} ms on {n // 100:,}; "
        f"ratio {many['more'] / few['more']:.2f}"
    )
    print(
        f"  a look after a group's least was taken back: {many['taken']:.1f} ms; raw DuckDB's min of that group "
        f"{many['raw']:.1f} ms; ratio {many['raw'] / many['taken']:.2f}; on {n // 100:,} records {few['taken']:.1f} ms"
    )
    print(
        f"  the first look of all at {n:,} records: {many['first']:.0f} ms of the CPU; that of a later process, from the groups that "
        f"were kept: {many['later']:.0f} ms; ratio {many['first'] / many['later']:.1f}"
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
