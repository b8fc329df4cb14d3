"""Assignment beside a raw murmur3 loop; results beside the grouped scan that they rest on; A/A and A/B simulations."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)


def assignment(n: int = 1_000_000) -> None:
    """Assignments per second."""
    import mmh3

    from bizcode.experiment.assignment import Assignment

    users = [f"user-{i}" for i in range(n)]
    split = Assignment("pricing-v2", ["control", "value", "usage"], [0.34, 0.33, 0.33])
    begun = time.perf_counter()
    for user in users:
        mmh3.hash("pricing-v2:" + user, 0, False)
    raw = n / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for user in users:
        split.variant(user)
    ours = n / (time.perf_counter() - begun)
    print(f"  assignment: {ours:,.0f}/s; a raw murmur3 loop {raw:,.0f}/s; ratio {ours / raw:.2f}")


def results(n: int) -> None:
    """Seconds of the results over n events, sealed."""
    from bizcode import Business, ManualClock

    rng = random.Random(1)
    users = max(1_000, n // 50)
    clock = ManualClock(START)
    with Business(":memory:", worker=False, clock=clock) as biz:
        experiment = biz.experiment.define(
            "pricing", ["control", "value"], goal=biz.track.ratio("Purchase", "PageView"), autostart=True
        )
        events: list[dict[str, Any]] = []
        clock.advance("1h")
        for user in range(users):
            experiment.assign(f"u{user}").run()
        for i in range(n):
            name = "Purchase" if rng.random() < 0.1 else "PageView"
            at = START + timedelta(hours=2, seconds=i * 86_400 * 14 / n)
            events.append({"event": name, "data": {"user_id": f"u{rng.randrange(users)}"}, "at": at})
            if len(events) == 100_000 or i == n - 1:
                biz.track.batch(events)
                events = []
        clock.advance("15d")
        biz.store.segments.compact()
        found = experiment.results().run()
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            experiment.results().run()
            times.append(time.perf_counter() - begun)
        ours = sorted(times)[2]
        files = [
            str(path) for path in biz.store.segments.directory.rglob("*.parquet") if "Purchase" in str(path)
        ]
        cursor = biz.store.engine.connection.cursor()
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            cursor.execute(
                'SELECT "user", count(*) FROM read_parquet($1) GROUP BY "user"', [files]
            ).fetchall()
            times.append(time.perf_counter() - begun)
        raw = sorted(times)[2]
    print(
        f"  results over {n:,} events of {users:,} users: {ours * 1e3:.0f} ms; the goal's grouped scan "
        f"{raw * 1e3:.0f} ms; ratio {ours / raw:.2f} ({found.verdict})"
    )


def simulations(tests: int = 2_000) -> None:
    """False positives of A/A tests, at a fixed look and peeked at daily; the power that was planned."""
    import numpy

    from bizcode.stats.compare import two_proportion_z
    from bizcode.stats.power import users_for_rates
    from bizcode.stats.sample import Proportion
    from bizcode.stats.sequential import always_valid_p

    rng = numpy.random.default_rng(11)
    fixed = peeked = 0
    for _ in range(tests):
        days = rng.binomial(200, 0.1, size=(28, 2)).cumsum(axis=0)
        below = False
        for day, (a, b) in enumerate(days.tolist(), 1):
            n = 200 * day
            pooled = (a + b) / (2 * n)
            below |= always_valid_p((b - a) / n, pooled * (1 - pooled) * 2 / n, 2 * n) < 0.05
        peeked += below
        a, b = days[-1].tolist()
        fixed += (two_proportion_z(Proportion(5_600, a), Proportion(5_600, b)) or 1) < 0.05
    print(
        f"  {tests:,} A/A tests: p_value at the end {fixed / tests:.1%}, p_sequential peeked at daily {peeked / tests:.1%}"
    )
    n = users_for_rates(0.1, 0.02)
    hits = sum(
        (two_proportion_z(Proportion(n, int(a)), Proportion(n, int(b))) or 1) < 0.05
        for a, b in zip(rng.binomial(n, 0.1, tests), rng.binomial(n, 0.12, tests), strict=True)
    )
    print(f"  {tests:,} A/B tests with {n:,} users each, planned for a power of 80 %: {hits / tests:.1%}")


def main(n: int = 2_000_000) -> None:
    """Prints the figures."""
    print("experiments")
    assignment()
    results(n)
    simulations()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
