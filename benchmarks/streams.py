"""Keyed tumbling and session windows over a stream of jittered events, beside bytewax on the same input."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)
JITTER, GAP, LENGTH = timedelta(seconds=5), timedelta(seconds=20), timedelta(minutes=1)
KEYS = 1_000


def ticks(n: int) -> list[tuple[str, datetime, float]]:
    """Events 10 ms apart, out of order by up to 5 s to either side."""
    rng = random.Random(1)
    return [
        (
            f"k{rng.randrange(KEYS)}",
            START + timedelta(milliseconds=10 * i) + JITTER * rng.uniform(-1, 1),
            rng.random() * 100,
        )
        for i in range(n)
    ]


def by_bytewax(rows: list[tuple[str, datetime, float]], kind: str) -> tuple[float, int]:
    """Seconds, and how many windows."""
    import bytewax.operators as op
    import bytewax.operators.windowing as windowing
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource, run_main

    found: list[Any] = []
    flow = Dataflow("windows")
    keyed = op.key_on("key", op.input("in", flow, TestingSource(rows, batch_size=1_000)), lambda row: row[0])
    clock = windowing.EventClock(lambda row: row[1], wait_for_system_duration=2 * JITTER)
    windower = (
        windowing.TumblingWindower(align_to=START, length=LENGTH)
        if kind == "tumbling"
        else windowing.SessionWindower(gap=GAP)
    )
    folded = windowing.fold_window(
        "fold",
        keyed,
        clock,
        windower,
        lambda: (0, 0.0),
        lambda state, row: (state[0] + 1, state[1] + row[2]),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    op.output("out", folded.down, TestingSink(found))
    begun = time.perf_counter()
    run_main(flow)
    return time.perf_counter() - begun, len(found)


def ours(rows: list[tuple[str, datetime, float]]) -> dict[str, tuple[float, int]]:
    """Seconds, and how many windows fired, of a started stream that catches up; from events that are sealed."""
    from bizcode import Business, ManualClock

    found: dict[str, tuple[float, int]] = {}
    clock = ManualClock(START + timedelta(days=30))
    with Business(":memory:", worker=False, clock=clock) as biz:
        for n in range(0, len(rows), 50_000):
            biz.track.batch(
                [{"event": "Tick", "data": {"k": k, "v": v}, "at": at} for k, at, v in rows[n : n + 50_000]]
            )
        biz.store.segments.compact()
        for kind in ("tumbling", "session", "tumbling, a function first"):
            results: list[Any] = []
            stream = biz.stream.track.Tick
            if "function" in kind:
                stream = stream.map(lambda e: {"k": e.k, "v": e.v})
            stream = stream.key_by("k").out_of_order(2 * JITTER)
            windows = stream.window.session(GAP) if kind == "session" else stream.window.tumbling(LENGTH)
            made = windows.aggregate(n=biz.count(), total=biz.sum("v")).to(results.append).named(kind)
            begun = time.perf_counter()
            made.start(since="start")
            biz.drain()
            seconds = time.perf_counter() - begun
            size = sum(len(key) + len(value) for key, value in biz.store.log.scan(f"stream:{kind}"))
            print(f"  state of {kind}: {size / 1024:.0f} KiB in {biz.stream.list().run()[-1].open} windows")
            found[kind] = seconds, len(results)
            made.stop()
    return found


def main(n: int = 1_000_000) -> None:
    """Prints a line for each kind of window."""
    if len(sys.argv) > 2 and sys.argv[1] == "--bytewax":
        for kind in ("tumbling", "session"):
            seconds, count = by_bytewax(ticks(int(sys.argv[2])), kind)
            print(kind, seconds, count)
        return
    print(f"streams: {n:,} events of {KEYS:,} keys, out of order by up to {2 * JITTER}")
    mine = ours(ticks(n))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    command = [sys.executable, __file__, "--bytewax", str(n)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    theirs = {kind: float(seconds) for kind, seconds, _ in (line.split() for line in lines if line)}
    for kind, (seconds, count) in mine.items():
        peer = theirs[kind.partition(",")[0]]
        print(
            f"  {kind}: {n / seconds:,.0f}/s, {count:,} results; bytewax {n / peer:,.0f}/s; ratio {peer / seconds:.2f}"
        )
    print(f"  peak memory of this process {peak} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) == 2 else 1_000_000)
