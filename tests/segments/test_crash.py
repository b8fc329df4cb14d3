"""A process that dies at any point of sealing, merging and erasing leaves nothing lost and nothing twice."""

from __future__ import annotations

import pytest

from .conftest import everything

WORK = """
import os, random, signal, sys, time
from pathlib import Path
import pyarrow.compute, pyarrow.parquet
from bizcode.log.sqlite import open_log
from bizcode.log.transaction import Session
from bizcode.record import Draft
from bizcode.segments import SegmentStore, files
directory = Path(sys.argv[1])

def opened():
    return SegmentStore(directory, open_log(directory), seal_rows=1)

def append(store, first, count):
    store.log.append([
        Draft("event", f"E{n % 2}", 1_700_000_000_000_000 + n * 7919 % 1000, '{"n":%d}' % n, id=f"r{n}")
        for n in range(first, first + count)
    ])

def check(store, wanted):
    problems = store.doctor().problems
    assert {problem.kind for problem in problems} <= {"orphan"}, problems
    report = store.doctor(mend=True)
    assert report.ok, str(report)
    assert store.doctor().problems == []
    assert not store.log.scan("discarded")
    held = {path.relative_to(directory).as_posix() for path in (directory / "segments").rglob("*") if path.is_file()}
    assert held == {segment.file for segment in store.catalog().segments}
    sealed = store.catalog().sealed_to
    found = [row.id for rows in store.rows(0) for row in rows] + [row.id for row in store.log.read(0)]
    assert len(found) == len(set(found)), "twice"
    assert wanted <= set(found), wanted - set(found)
    return set(found)
"""

EACH_POINT = (
    WORK
    + """
left = None
def point(function, before=True, after=False):
    def counted(*arguments, **options):
        global left
        for due in (before, None, after):
            if due is None:
                result = function(*arguments, **options)
            elif due and left is not None:
                left -= 1
                if left == 0:
                    os._exit(9)
        return result
    return counted

os.fsync = point(os.fsync)
os.replace = point(os.replace, after=True)
files.remove = point(files.remove, after=True)
Session.commit = point(Session.commit, after=True)

def work(store):
    global left
    left = crash_at
    store.seal(store.log.head() - 5)
    store.seal()
    store.merge(all=True)
    store.erase([store.log.head()], lambda tx: None)

rounds = done = 0
erased = set()
while not done:
    rounds += 1
    store = opened()
    append(store, rounds * 20, 20)
    store.log.close()
    child = os.fork()
    if not child:
        crash_at = rounds
        work(opened())
        os._exit(0)
    done = os.waitpid(child, 0)[1] == 0
    store = opened()
    last = f"r{rounds * 20 + 19}"
    wanted = {f"r{n}" for n in range(20, rounds * 20 + 20)} - erased - {last}
    found = check(store, wanted)
    if last not in found:
        erased.add(last)
    store.log.close()
print(rounds)
"""
)

AT_RANDOM = (
    WORK
    + """
random.seed(int(sys.argv[2]))
acknowledged = 0
rounds = 12
for round in range(rounds):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        store = opened()
        n = acknowledged
        while True:
            append(store, n, 10)
            n += 10
            os.write(writer, b".")
            if store.due():
                store.seal()
            if n % 40 == 0:
                store.merge(all=n % 80 == 0)
    os.close(writer)
    deadline = time.monotonic() + random.uniform(0.02, 0.25)
    batches = 0
    os.set_blocking(reader, False)
    while time.monotonic() < deadline:
        try:
            batches += len(os.read(reader, 1000))
        except BlockingIOError:
            time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.set_blocking(reader, True)
    while more := os.read(reader, 1000):
        batches += len(more)
    os.close(reader)
    store = opened()
    found = check(store, {f"r{n}" for n in range(acknowledged + batches * 10)})
    acknowledged = len(found)
    assert found == {f"r{n}" for n in range(acknowledged)}
    store.log.close()
print(acknowledged)
"""
)


def outcome(running) -> int:
    out, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    return int(out)


def test_dying_at_each_step_loses_nothing_and_leaves_at_most_orphans(store, python):
    store.log.close()
    assert outcome(python(EACH_POINT, store.directory)) > 25


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_everything_acknowledged_is_there_once(store, python, seed):
    acknowledged = outcome(python(AT_RANDOM, store.directory, seed))
    assert acknowledged >= 100
    rows = everything(store) + store.log.read(0)
    assert [row.position for row in rows] == list(range(1, acknowledged + 1))
