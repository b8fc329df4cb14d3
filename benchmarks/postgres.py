"""Commits of the log in PostgreSQL beside raw psycopg, on one server, in one run.

    python -m benchmarks.postgres [--url URL] [--repeat N]

Without a URL it starts a server of its own with its default settings (each commit is flushed to the disk).
Raw is the least that stores the same bytes: a table with the same columns and a sequence for a key, one
INSERT per commit, prepared, over a connection of its own; COPY for a batch; as many connections as threads
for a crowd. It orders nothing, knows no ids and tells nobody. Repetitions of both alternate; the median counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bizcode.log.postgres import open_postgres

from .writes import BATCH, DRAFT, MANY, ONE, ROW

TABLE = """create table {} (position bigserial primary key, kind text, name text, time bigint, data text,
    "user" text, id text, entity text, version bigint, value double precision, experiments text)"""
COLUMNS = 'kind, name, time, data, "user", id, entity, version, value, experiments'


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """A server to measure: the given one, or one of our own."""
    if url is not None:
        yield url
        return
    path = Path(__file__).parents[1] / "tests" / "scale" / "conftest.py"
    spec = importlib.util.spec_from_file_location("scale_servers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    directory = Path(tempfile.mkdtemp(prefix="bizcode-bench-"))
    account = module.account()
    if account is not None:
        shutil.chown(directory, account)
    where = module.binaries()
    if where is None:
        raise SystemExit("there is no PostgreSQL on this machine: give --url")
    running = module.Postgres(where, directory, account)
    try:
        running.create()
        running.start()
        yield running.url()
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)


def crowd(work: Callable[[int], Any], threads: int, each: int) -> None:
    """Do it in several threads at once."""

    def body(n: int) -> None:
        for _ in range(each):
            work(n)

    running = [threading.Thread(target=body, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def compare(pair: list[Callable[[], int]], repeat: int) -> list[float]:
    """Median microseconds per record of each, in alternating repetitions."""
    taken: list[list[float]] = [[] for _ in pair]
    for _ in range(repeat):
        for work, times in zip(pair, taken, strict=True):
            start = time.perf_counter()
            count = work()
            times.append((time.perf_counter() - start) / count * 1e6)
    return [statistics.median(times) for times in taken]


def measure(url: str, repeat: int) -> list[tuple[str, float, float]]:
    """(what, microseconds raw, microseconds ours) per record."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    connections = [psycopg.connect(url, autocommit=True) for _ in range(8)]
    connections[0].execute(TABLE.format(name))  # type: ignore[arg-type]
    insert: Any = f"insert into {name} ({COLUMNS}) values ({', '.join(['%s'] * len(ROW))})"
    copy: Any = f"copy {name} ({COLUMNS}) from stdin"
    log = open_postgres(f"{url}?schema={name}_log")
    log.before_append = lambda tx, drafts: drafts

    def raw(n: int = 0) -> None:
        connections[n].execute(insert, ROW, prepare=True)

    def raw_batch() -> int:
        with connections[0].cursor() as cursor, cursor.copy(copy) as out:
            for _ in range(BATCH):
                out.write_row(ROW)
        return BATCH

    def ours_batch() -> int:
        log.append(MANY)
        return BATCH

    def times(work: Callable[[], Any], count: int) -> int:
        for _ in range(count):
            work()
        return count

    def together(work: Callable[[int], Any], threads: int, each: int) -> int:
        crowd(work, threads, each)
        return threads * each

    lines = []
    pairs: list[tuple[str, list[Callable[[], int]]]] = [
        ("single commit", [lambda: times(raw, 300), lambda: times(lambda: log.append(ONE), 300)]),
        (f"batch of {BATCH:,}, per record", [raw_batch, ours_batch]),
        (
            "8 threads, single commits",
            [lambda: together(raw, 8, 60), lambda: together(lambda n: log.append(ONE), 8, 60)],
        ),
        ("8 threads, buffered", [lambda: together(raw, 8, 60), lambda: buffered(log, 4_000)]),
    ]
    for what, pair in pairs:
        lines.append((what, *compare(pair, repeat)))
    lines.append(
        (
            "read of the newest position",
            *compare([lambda: newest(connections[0], name), lambda: times(log.head, 300)], repeat),
        )
    )
    log.close()
    for connection in connections:
        connection.close()
    return lines


def newest(connection: Any, name: str) -> int:
    for _ in range(300):
        connection.execute(f"select max(position) from {name}").fetchone()
    return 300


def buffered(log: Any, count: int) -> int:
    for _ in range(count):
        log.append_later(DRAFT._replace(id=uuid.uuid4().hex))
    log.flush()
    return count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--url", help="of a database to write to; without options")
    arguments.add_argument("--repeat", type=int, default=7)
    given = arguments.parse_args()
    with server(given.url) as url:
        print(f"{'':36}{'raw µs':>12}{'log µs':>12}{'ratio':>8}")
        for what, theirs, ours in measure(url, given.repeat):
            print(f"{what:36}{theirs:12,.1f}{ours:12,.1f}{theirs / ours:8.2f}")


if __name__ == "__main__":
    main()
