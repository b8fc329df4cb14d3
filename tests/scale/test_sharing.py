"""Several processes, as on several machines, on one database: leases, wake-ups, entities, consumers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import bizcode
from bizcode import Business, ManualClock
from bizcode.record import Draft

SOURCE = str(Path(bizcode.__file__).parents[1])


def process(script: str, *words: object, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        env={**os.environ, "PYTHONPATH": SOURCE, "BIZCODE_CACHE": str(cache)},
        cwd=cache.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


HANDLER = """
import sys
from bizcode import Business
biz = Business(sys.argv[1])
@biz.on.track.Signup
def handled(event):
    biz.measure.handled(event.n)
    biz.track.Seen(n=event.n)
print("ready", flush=True)
sys.stdin.read()
biz.close()
"""


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_worker_is_followed_by_another_and_nothing_is_done_twice(url, tmp_path):
    workers = [process(HANDLER, url, cache=tmp_path / f"cache{n}") for n in range(2)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        with Business(url, worker=False) as biz:
            biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(300)])
            until(lambda: biz.track.Seen.count().run() >= 40)
            workers[0].kill()
            biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(300, 400)])
            until(lambda: biz.track.Seen.count().run() >= 400)
            assert sorted(event.n for event in biz.track.Seen.events()) == list(range(400))
            assert biz.measure.handled.sum().run() == sum(range(400))
            assert biz.dead_letters.list().run() == []
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def woken(log, seen: int) -> float:
    assert log.wait(seen, 20)
    return time.time()


def test_a_commit_of_another_process_wakes_within_50_ms(url, tmp_path):
    from bizcode.log.postgres import open_postgres

    script = """
import sys, time
from bizcode.log.postgres import open_postgres
from bizcode.record import Draft
log = open_postgres(sys.argv[1])
for line in sys.stdin:
    log.append([Draft("event", "Signup", 0, "{}")])
    print(time.time(), flush=True)
"""
    log = open_postgres(url)
    other = process(script, url, cache=tmp_path / "cache")
    assert other.stdin is not None
    assert other.stdout is not None
    late = []
    pool = ThreadPoolExecutor(1)
    try:
        for _ in range(12):
            seen = log.changes()
            waiter = pool.submit(woken, log, seen)
            time.sleep(0.02)
            other.stdin.write("\n")
            other.stdin.flush()
            committed = float(other.stdout.readline())
            late.append(waiter.result() - committed)
    finally:
        other.stdin.close()
        other.wait(10)
        log.close()
    assert sorted(late)[len(late) // 2] < 0.05


def test_processes_leave_no_gap_and_lose_no_version(url, tmp_path):
    script = """
import sys
from bizcode.log.postgres import open_postgres
from bizcode.record import Draft
log = open_postgres(sys.argv[1])
for n in range(150):
    log.append([Draft("entity", "Order.paid", n, "{}", entity="Order/1"), Draft("event", sys.argv[2], n, "{}")])
    with log.transaction() as tx:
        tx.put("s", "n", str(int(tx.get("s", "n") or b"0") + 1).encode())
log.close()
"""
    from bizcode.log.postgres import open_postgres

    log = open_postgres(url)
    writers = [process(script, url, f"e{n}", cache=tmp_path / "cache") for n in range(3)]
    last = 0
    while any(writer.poll() is None for writer in writers) or last < log.head():
        rows = log.read(last)
        assert [row.position for row in rows] == list(range(last + 1, last + 1 + len(rows)))
        last += len(rows)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert last == 900
    assert [event.version for event in log.entity_events("Order/1")] == list(range(1, 451))
    assert log.get("s", "n") == b"450"
    assert log.check() == []
    log.close()


def test_a_position_that_another_has_moved_is_not_moved_back(url):
    """A lease can be lost with its connection: the positions themselves are compared."""
    from bizcode import Conflict

    clock = ManualClock("2024-01-01")
    with (
        Business(url, clock=clock, worker=False) as first,
        Business(url, clock=clock, worker=False) as second,
    ):
        seen: list[int] = []
        for biz in (first, second):
            biz.track.Signup.subscribe(lambda event: seen.append(event.n), name="mailer", since="start")
        first.track.Signup(n=1)
        consumer = first.store.consumers.get("mailer")
        consumer.load()
        second.drain()
        with pytest.raises(Conflict, match="mailer"), first.store.log.transaction() as tx:
            consumer._write_position(tx, 1)
        first.track.Signup(n=2)
        first.drain()
        second.drain()
        assert seen == [1, 2]


def test_a_fork_goes_on_with_connections_of_its_own(url):
    from bizcode.log.postgres import open_postgres

    log = open_postgres(url)
    log.append([Draft("event", "Signup", 0, "{}")])
    log.changes()
    log.wait(log.changes(), 0)
    child = os.fork()
    if child == 0:
        try:
            ok = log.head() == 1 and log.append([Draft("event", "Signup", 1, "{}")])[0].position == 2
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert log.append([Draft("event", "Signup", 2, "{}")])[0].position == 3
    assert log.check() == []
    log.close()


def test_clocks_that_differ_between_machines_change_no_order(url):
    early, late = ManualClock("2020-01-01"), ManualClock("2024-01-01")
    with Business(url, clock=late, worker=False) as one, Business(url, clock=early, worker=False) as two:
        seen: list[int] = []
        one.track.Signup.subscribe(lambda event: seen.append(event.n), name="follower", since="start")
        for n in range(10):
            (one, two)[n % 2].track.Signup(n=n)
            one.Order("o1").append("paid", n=n) if n % 2 else two.Order("o1").append("paid", n=n)
        one.drain()
        assert seen == list(range(10))
        assert [event.n for event in two.Order("o1").events().run()] == list(range(10))
        assert [event.timestamp.year for event in one.Order("o1").events().run()] == [2020, 2024] * 5
        assert one.track.Signup.count().run() == two.track.Signup.count().run() == 10
