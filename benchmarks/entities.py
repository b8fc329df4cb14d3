"""Entities against the `eventsourcing` package on SQLite, and deliveries to a handler, in one run.

    python benchmarks/entities.py [--directory DIR] [--events N] [--deliveries N]

Both keep a snapshot each 100 events. Repetitions alternate, the median of them counts. The ratio is
the other's time by ours: more is faster.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bizcode import Business

SNAPSHOTS = 100


class Account(Aggregate):
    """The same account as theirs."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    @event("Credited")
    def credit(self, amount: int) -> None:
        self.total += amount
        self.count += 1


class Accounts(Application):
    snapshotting_intervals = {Account: SNAPSHOTS}


def define(biz: Business) -> None:
    @biz.aggregate("Account", snapshots={"every": SNAPSHOTS})
    class _Account:
        total: float = 0
        count: int = 0

        def credited(self, e):
            self.total += e.amount
            self.count += 1


def compare(theirs: Callable[[], object], ours: Callable[[], object], calls: int) -> tuple[float, float]:
    """Median microseconds per call of both, in alternating repetitions."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(5):
        for work, times in zip((theirs, ours), taken, strict=True):
            begin = time.perf_counter()
            for _ in range(calls):
                work()
            times.append((time.perf_counter() - begin) / calls * 1e6)
    return statistics.median(taken[0]), statistics.median(taken[1])


def entities(directory: Path, events: int) -> list[tuple[str, float, float, float]]:
    """(what, their microseconds, ours, goal of the ratio)."""
    settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / "theirs.db")}
    application = Accounts(env=settings)
    account = Account()
    application.save(account)
    biz = Business(directory / "ours", worker=False)
    define(biz)
    mine = biz.Account("a1")
    for _ in range(events // SNAPSHOTS):
        for _ in range(SNAPSHOTS):
            account.credit(5)
        application.save(account)
        mine.append_many([("credited", {"amount": 5})] * SNAPSHOTS)
        mine.state().run()

    def save() -> None:
        account.credit(5)
        application.save(account)

    def get_and_save() -> None:
        found = application.repository.get(account.id)
        found.credit(5)
        application.save(found)

    def state_and_append() -> None:
        mine.state().run()
        mine.append("credited", amount=5)

    repository = application.repository
    lines = [
        (
            f"state of {events:,} events",
            *compare(lambda: repository.get(account.id), lambda: mine.state().run(), 100),
            5.0,
        ),
        ("append", *compare(save, lambda: mine.append("credited", amount=5), 200), 5.0),
    ]
    lines.append(("state, then append", *compare(get_and_save, state_and_append, 100), 5.0))
    biz.close()
    return lines


def deliveries(directory: Path, count: int) -> None:
    """So many records to a registered handler that writes; the memory at the end of each tenth."""
    biz = Business(directory / "delivered", worker=False)
    seen = [0]

    @biz.on.track.Tick
    def handler(event):
        seen[0] += 1

    sizes = []
    taken = 0.0
    for n in range(10):
        biz.track.batch([{"event": "Tick", "data": {"n": n, "i": i}} for i in range(count // 10)])
        begin = time.perf_counter()
        biz.drain()
        taken += time.perf_counter() - begin
        sizes.append(_memory())
    biz.close()
    assert seen[0] == count
    print(
        f"\n{count:,} deliveries: {taken / count * 1e6:.1f} µs each; RSS after each tenth, MiB (the last one with what seals the log):"
    )
    print("  " + " ".join(f"{size:.0f}" for size in sizes))


def _memory() -> float:
    """MiB that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--directory", type=Path, default=Path.cwd(), help="on the file system to measure")
    arguments.add_argument("--events", type=int, default=10_000)
    arguments.add_argument("--deliveries", type=int, default=100_000)
    given = arguments.parse_args()
    place = Path(tempfile.mkdtemp(dir=given.directory))
    try:
        print(f"{'':28}{'eventsourcing µs':>18}{'bizcode µs':>12}{'ratio':>8}{'goal':>6}")
        for what, theirs, ours, goal in entities(place, given.events):
            print(f"{what:28}{theirs:18,.1f}{ours:12,.1f}{theirs / ours:8.1f}{goal:6.0f}")
        deliveries(place, given.deliveries)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
