"""Several processes on one log: nothing lost, no gaps, nobody starves, news arrives."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bizcode
from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft

SOURCE = str(Path(bizcode.__file__).parents[1])
START = """
import sys, time
from pathlib import Path
from bizcode.log.sqlite import open_log
from bizcode.record import Draft
log = open_log(Path(sys.argv[1]), sys.argv[2])
def event(data="{}"):
    return Draft("event", "Signup", 0, data)
def say(*words):
    print(*words, flush=True)
"""


def process(script: str, directory: Path, durability: str = "commit", *more: object) -> subprocess.Popen[str]:
    """A Python process that has the log open as `log`."""
    return subprocess.Popen(
        [sys.executable, "-c", START + script, str(directory), durability, *map(str, more)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(running: subprocess.Popen[str]) -> list[str]:
    """What it said until its end, which must be a good one."""
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    return out.splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "acme")
    yield log
    log.close()


def event(data: str = "{}") -> Draft:
    return Draft("event", "Signup", 0, data)


@pytest.mark.parametrize("durability", ["commit", "disk"])
def test_a_killed_writer_loses_no_acknowledged_record(log: SqliteLog, durability: str) -> None:
    script = """
n = 0
while True:
    say(log.append([event(f"[{n}]")])[0].position)
    answers = log.append([event(f"[{n},{k}]") for k in range(20)])
    say(answers[-1].position)
    n += 1
"""
    running = process(script, log.directory, durability)
    acknowledged: list[int] = []
    assert running.stdout is not None
    while len(acknowledged) < 300:
        acknowledged.append(int(running.stdout.readline()))
    running.kill()
    acknowledged += [
        int(line) for line in running.stdout.read().splitlines(keepends=True) if line[-1] == "\n"
    ]
    running.wait()
    rows = log.read(0)
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= acknowledged[-1]
    singles = [row.data for row in rows if "," not in row.data]
    batched = [row.data for row in rows if "," in row.data]
    assert singles == [f"[{n}]" for n in range(len(singles))]
    assert batched == [f"[{n},{k}]" for n in range(len(batched) // 20) for k in range(20)], "a batch was torn"
    assert log.check() == []
    log.append([event()])


def test_four_writers_and_a_reader_see_every_record_once(log: SqliteLog) -> None:
    write = """
who, count = int(sys.argv[3]), int(sys.argv[4])
for n in range(count):
    if n % 10:
        log.append([event(f"[{who},{n}]")])
    else:
        with log.transaction() as tx:
            tx.append([event(f"[{who},{n}]")])
            tx.put("last", str(who), str(n).encode())
log.close()
"""
    follow = """
last = 0
while last < int(sys.argv[3]):
    changes = log.changes()
    with log.snapshot() as then:
        rows = then.read(last)
        assert [row.position for row in rows] == list(range(last + 1, then.head() + 1))
    for row in rows:
        say(row.data)
    last += len(rows)
    if not rows:
        log.wait(changes, 1)
"""
    count = 250
    reader = process(follow, log.directory, "commit", 4 * count)
    writers = [process(write, log.directory, "commit", who, count) for who in range(4)]
    seen = lines(reader)
    for writer in writers:
        lines(writer)
    assert seen == [row.data for row in log.read(0)]
    for who in range(4):
        mine = [data for data in seen if data.startswith(f"[{who},")]
        assert mine == [f"[{who},{n}]" for n in range(count)]
    assert {key for key, _ in log.scan("last")} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("durability", ["commit", "disk"])
def test_no_writer_waits_long_among_four_in_tight_loops(log: SqliteLog, durability: str) -> None:
    script = """
sys.stdin.readline()
worst, count, end = 0.0, 0, time.monotonic() + 1.5
while (start := time.monotonic()) < end:
    log.append([event()])
    worst, count = max(worst, time.monotonic() - start), count + 1
say(worst, count)
"""
    writers = [process(script, log.directory, durability) for _ in range(4)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [lines(writer)[0].split() for writer in writers]
    waits = [float(worst) for worst, _ in told]
    counts = [int(count) for _, count in told]
    assert max(waits) < 1.0, waits
    assert min(counts) > 0.05 * max(counts), counts
    assert log.head() == sum(counts)


def test_commits_of_another_process_wake_within_50_ms(log: SqliteLog) -> None:
    script = """
changes = log.changes()
for _ in range(int(sys.argv[3])):
    say("waiting")
    assert log.wait(changes, 30)
    say(time.monotonic())
    changes = log.changes()
"""
    count = 10
    running = process(script, log.directory, "commit", count)
    assert running.stdout is not None
    delays = []
    for _ in range(count):
        assert running.stdout.readline() == "waiting\n"
        committed = time.monotonic()
        log.append([event()])
        delays.append(float(running.stdout.readline()) - committed)
    lines(running)
    assert statistics.median(delays) < 0.05, delays


def test_a_writer_killed_inside_a_transaction_frees_the_lock(log: SqliteLog) -> None:
    script = """
with log.transaction() as tx:
    tx.append([event("lost")])
    say("inside")
    time.sleep(60)
"""
    running = process(script, log.directory)
    assert running.stdout is not None
    assert running.stdout.readline() == "inside\n"
    running.kill()
    running.wait()
    assert log.append([event("kept")])[0].position == 1
    assert [row.data for row in log.read(0)] == ["kept"]


def test_many_processes_may_create_the_same_store(tmp_path: Path) -> None:
    script = "say(log.store_id, log.append([event()])[0].position)"
    told = [lines(running)[0].split() for running in [process(script, tmp_path / "new") for _ in range(4)]]
    assert len({store for store, _ in told}) == 1
    assert sorted(int(position) for _, position in told) == [1, 2, 3, 4]


def test_buffered_writes_are_committed_when_the_interpreter_ends(log: SqliteLog) -> None:
    lines(process("for n in range(500): log.append_later(event(str(n)))", log.directory, "buffered"))
    assert [row.data for row in log.read(0)] == [str(n) for n in range(500)]


def test_settings_written_by_another_process_are_seen(log: SqliteLog) -> None:
    assert dict(log.cached("settings")) == {}
    script = "\nwith log.transaction() as tx: tx.put('settings', 'a', b'1')"
    lines(process(script, log.directory))
    assert dict(log.cached("settings")) == {"a": b"1"}
    with log.transaction() as tx:
        assert dict(tx.cached("settings")) == {"a": b"1"}
