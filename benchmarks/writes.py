"""Writes of the log against raw sqlite3 of the standard library, in one run on one file system.

    python benchmarks/writes.py [--directory DIR] [--repeat N]

Raw is the least that stores the same bytes: a table with the same columns and no index, in WAL mode
with the same `synchronous`; one INSERT and COMMIT, or `executemany` in one transaction. Repetitions
of both alternate, so that a busy moment of the machine hits both; the median of them counts.
The ratio is raw's time by ours, so 1.0 is as fast as raw and more is faster.

Then the same events through `biz.track`, which checks and encodes each and gives an Event back: alone, and with the
sealing that falls due each 100,000 events, which a worker does behind the program's back.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from bizcode import Business
from bizcode.log.sqlite import open_log
from bizcode.record import Draft

DATA = '{"user_id":"u123456","plan":"pro","amount":199.5,"country":"DE","campaign":"newsletter"}'
DRAFT = Draft("event", "Signup", 1_700_000_000_000_000, DATA, "u123456")
ROW = ("event", "Signup", 1_700_000_000_000_000, DATA, "u123456", None, None, None, None, None)
INSERT = """insert into records (kind, name, time, data, user, id, entity, version, value, experiments)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
BATCH = 10_000
ONE = (DRAFT,)
MANY = [DRAFT] * BATCH


def raw(directory: Path, synchronous: str) -> sqlite3.Connection:
    """What somebody would write by hand."""
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {synchronous}")
    connection.execute(
        "create table records (position integer primary key, kind, name, time, data, user, id, entity, "
        "version, value, experiments)"
    )
    return connection


def compare(
    theirs: Callable[[], object], ours: Callable[[], object], count: int, repeat: int
) -> tuple[float, float]:
    """Median microseconds per call of both, in alternating repetitions of `count` calls."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for work, times in zip((theirs, ours), taken, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                work()
            times.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(taken[0]), statistics.median(taken[1])


def measure(directory: Path, repeat: int) -> list[tuple[str, float, float, float]]:
    """(what, microseconds raw, microseconds ours, goal of the ratio) per line of the table."""
    lines: list[tuple[str, float, float, float]] = []
    for durability, synchronous in (("commit", "normal"), ("disk", "full")):
        place = Path(tempfile.mkdtemp(dir=directory))
        connection = raw(place, synchronous)
        log = open_log(place / "store", durability)
        # The door above puts its quotas and experiments here, so it is part of the price.
        log.before_append = lambda tx, drafts: drafts

        def single(connection: sqlite3.Connection = connection) -> None:
            connection.execute("begin immediate")
            connection.execute(INSERT, ROW)
            connection.execute("commit")

        def batch(
            connection: sqlite3.Connection = connection, rows: list[tuple[object, ...]] = [ROW] * BATCH
        ) -> None:
            connection.execute("begin immediate")
            connection.executemany(INSERT, rows)
            connection.execute("commit")

        calls = 5_000 if durability == "commit" else 500
        times = compare(single, lambda log=log: log.append(ONE), calls, repeat)
        lines.append((f"single write, {durability}", *times, 0.6))
        times = compare(batch, lambda log=log: log.append(MANY), 1, repeat * 2)
        lines.append((f"batch of {BATCH:,}, {durability}", *times, 0.6))
        if durability == "commit":
            entity = DRAFT._replace(kind="entity", name="Order.paid", entity="Order/o1")
            times = compare(single, lambda log=log, draft=entity: log.append((draft,)), calls, repeat)
            lines.append(("entity event, commit", *times, 0.4))
            later = log.append_later
            times = compare(single, lambda later=later: later(DRAFT), calls, repeat)
            lines.append(("single write, buffered (returning)", *times, 1.0))
            log.flush()
        connection.close()
        log.close()
        shutil.rmtree(place)
    return lines


def doors(directory: Path, repeat: int) -> list[tuple[str, float, float, float]]:
    """The same through `biz.track`."""
    lines: list[tuple[str, float, float, float]] = []
    events = [{"event": "Signup", "data": orjson.loads(DATA)}] * BATCH
    for what, every in (("biz.track.batch of 10,000", 10**9), ("the same with its sealing", 100_000)):
        place = Path(tempfile.mkdtemp(dir=directory))
        connection = raw(place, "normal")
        with Business(place / "store", worker=False) as biz:
            biz.store.segments.seal_rows = every

            def batch(connection: sqlite3.Connection = connection) -> None:
                connection.execute("begin immediate")
                connection.executemany(INSERT, [ROW] * BATCH)
                connection.execute("commit")

            rounds = 10 if every < 10**9 else 1
            times = compare(batch, lambda biz=biz: biz.track.batch(events), rounds, repeat)
            lines.append((what, *times, 0.6))
            if rounds == 1:

                def single(connection: sqlite3.Connection = connection) -> None:
                    connection.execute("begin immediate")
                    connection.execute(INSERT, ROW)
                    connection.execute("commit")

                data = events[0]["data"]
                times = compare(single, lambda biz=biz, data=data: biz.track.Signup(data), 2_000, repeat)
                lines.insert(0, ("biz.track.Signup, commit", *times, 0.6))
        connection.close()
        shutil.rmtree(place)
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--directory", type=Path, default=Path.cwd(), help="on the file system to measure")
    arguments.add_argument("--repeat", type=int, default=9)
    given = arguments.parse_args()
    print(f"{'':36}{'raw µs':>12}{'log µs':>12}{'ratio':>8}{'goal':>8}")
    for what, theirs, ours, goal in measure(given.directory, given.repeat) + doors(
        given.directory, given.repeat
    ):
        print(f"{what:36}{theirs:12,.1f}{ours:12,.1f}{theirs / ours:8.2f}{goal:8.1f}")


if __name__ == "__main__":
    main()
