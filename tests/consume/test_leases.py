"""Who works on a consumer, what happens when that process dies, hangs or is far away."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

from processes import SOURCE, heard, start, until

from bizcode import Business

HOLDER = """
import sys, threading
from bizcode import Business
biz = Business(sys.argv[1])
@biz.on.track.Order(name="worker")
def handler(event):
    biz.track.Done(by="holder")
    print("in", flush=True)
    threading.Event().wait()
print("ready", flush=True)
threading.Event().wait()
"""


def held(directory):
    """A process that holds the lease of "on:worker" in the middle of a record."""
    process = start(directory, code=HOLDER)
    heard(process, "ready")
    return process


def test_another_takes_over_within_five_seconds(tmp_path):
    process = held(tmp_path / "a")
    with Business(tmp_path / "a", worker=False) as biz:
        biz.track.Order(n=1)
    heard(process, "in")
    with Business(tmp_path / "a") as biz:
        done = []
        biz.on.track.Order(lambda e: done.append(e.n), name="worker")
        process.kill()
        process.wait()
        assert until(lambda: done) < 5
        assert done == [1]
        assert biz.track.Done.count().run() == 0


def test_drain_takes_a_dead_holders_lease_at_once_and_leaves_a_living_ones(tmp_path):
    with Business(tmp_path / "a", worker=False) as biz:
        process = held(tmp_path / "a")
        done = []
        biz.on.track.Order(lambda e: done.append(e.n), name="worker")
        biz.track.Order(n=1)
        heard(process, "in")
        biz.drain()
        assert done == []
        process.kill()
        process.wait()
        begin = time.monotonic()
        biz.drain()
        assert done == [1]
        assert time.monotonic() - begin < 2


def test_a_handler_that_never_returns_holds_up_no_other(tmp_path):
    release, seen = threading.Event(), []
    with Business(tmp_path / "a") as biz:
        biz.on.track.Order(lambda e: release.wait(), name="hangs")
        biz.on.track.Order(lambda e: seen.append(e.n), name="goes on")
        for n in range(3):
            biz.track.Order(n=n)
        until(lambda: len(seen) == 3)
        release.set()
    assert seen == [0, 1, 2]


def test_a_write_of_another_process_wakes_it_at_once(tmp_path):
    code = """
import sys, time
from bizcode import Business
with Business(sys.argv[1], worker=False) as biz:
    for line in sys.stdin:
        biz.track.Ping(sent=time.time())
        print("sent", flush=True)
"""
    with Business(tmp_path / "a") as biz:
        took = []
        biz.track.Ping.subscribe(lambda e: took.append(time.time() - e.sent))
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "a")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": SOURCE},
        )
        for n in range(15):
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
            until(lambda n=n: len(took) == n + 1)
        process.stdin.close()
        process.wait(10)
    # 50 ms on a machine with nothing else to do.
    assert statistics.median(took) < 0.2


def test_a_store_that_stands_still_costs_no_time(tmp_path):
    with Business(tmp_path / "a") as biz:
        biz.on.track.Order(lambda e: None, name="idle")
        biz.every.hour(lambda: None, name="later")
        biz.track.Order()
        until(lambda: not biz.store.consumers._busy)
        begin = time.process_time()
        threading.Event().wait(1)
        assert time.process_time() - begin < 0.3
