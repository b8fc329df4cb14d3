"""Ctrl-C at any moment: no lock stays held, nothing is half written, nobody else is harmed."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft

# An interrupt may come while a generator is being thrown away; Python then only warns of it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=["commit", "disk"])
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteLog]:
    log = open_log(tmp_path / "acme", request.param)
    yield log
    log.close()


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(work: Callable[[], object], seconds: float) -> None:
    """Run it until it ends or is interrupted after that time."""
    with contextlib.suppress(KeyboardInterrupt):
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def event(data: str = "{}", id: str | None = None) -> Draft:
    return Draft("event", "Signup", 0, data, id=id)


def usable(log: SqliteLog) -> None:
    """Every lock is free, for this process and for others."""
    done = threading.Thread(target=lambda: log.append([event("check")]), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive(), "a lock of the process stayed held"
    other = open_log(log.directory)
    done = threading.Thread(target=lambda: other.append([event("check")]), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive(), "a lock between processes stayed held"
    other.close()


def test_an_interrupted_append_is_stored_wholly_or_not_at_all(log: SqliteLog) -> None:
    chance = random.Random(1)
    acknowledged: list[int] = []

    def write() -> None:
        for n in range(200):
            answers = log.append([event(f"{n}.{k}") for k in range(3)])
            acknowledged.append(answers[0].position)

    for _ in range(150):
        interrupted(write, chance.uniform(0.00001, 0.003))
    usable(log)
    rows = [row for row in log.read(0) if row.data != "check"]
    assert [row.data[-2:] for row in rows] == [".0", ".1", ".2"] * (len(rows) // 3)
    starts = {row.position for row in rows if row.data.endswith(".0")}
    assert starts.issuperset(acknowledged)
    assert len(acknowledged) == len(set(acknowledged)) <= len(starts)
    assert log.check() == []


def test_an_interrupted_transaction_is_rolled_back_or_committed(log: SqliteLog) -> None:
    chance = random.Random(2)

    def write() -> None:
        while True:
            with log.transaction() as tx:
                count = int(tx.get("s", "n") or b"0") + 1
                tx.append([event(str(count))])
                tx.put("s", "n", str(count).encode())

    for _ in range(150):
        interrupted(write, chance.uniform(0.00001, 0.003))
    count = int(log.get("s", "n") or b"0")
    assert [row.data for row in log.read(0)] == [str(n) for n in range(1, count + 1)]
    usable(log)


def test_an_interrupted_caller_harms_none_of_those_it_commits_for(log: SqliteLog) -> None:
    """The one who holds the lock commits for others too; when it is interrupted they still get theirs."""
    chance = random.Random(3)
    stop = threading.Event()
    acknowledged: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def others(who: int) -> None:
        while not stop.is_set():
            n = len(acknowledged[who])
            acknowledged[who].append(log.append([event(f"{who}:{n}")])[0].position)

    def mine() -> None:
        while True:
            log.append([event("mine")])

    threads = [threading.Thread(target=others, args=(who,)) for who in acknowledged]
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            interrupted(mine, chance.uniform(0.0001, 0.004))
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    rows = log.read(0)
    for who, positions in acknowledged.items():
        found = [row for row in rows if row.data.startswith(f"{who}:")]
        assert [row.data for row in found] == [f"{who}:{n}" for n in range(len(positions))], "lost or doubled"
        assert [row.position for row in found] == positions
    usable(log)


def test_an_interrupted_flush_loses_and_doubles_nothing(log: SqliteLog) -> None:
    chance = random.Random(4)
    pending = []
    for round in range(80):
        pending += [log.append_later(event(id=f"{round}-{n}")) for n in range(30)]
        interrupted(log.flush, chance.uniform(0.00001, 0.001))
    log.flush()
    rows = log.read(0)
    assert [row.id for row in rows] == [f"{round}-{n}" for round in range(80) for n in range(30)]
    assert [p.result().position for p in pending] == [row.position for row in rows]
    usable(log)


def test_an_interrupted_wait_leaves_the_others_waiting(log: SqliteLog) -> None:
    before = log.changes()
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(log.wait(before, 20)))
    waiting.start()
    interrupted(lambda: log.wait(before, 20), 0.05)
    log.append([event()])
    waiting.join(5)
    assert woken == [True]


def test_interrupted_reads_leave_usable_connections(log: SqliteLog) -> None:
    chance = random.Random(5)
    log.append([event() for _ in range(300)])

    def read() -> None:
        while True:
            assert len(log.read(0)) >= 300
            with log.snapshot() as then:
                assert then.head() >= 300

    for _ in range(100):
        interrupted(read, chance.uniform(0.00001, 0.003))
    usable(log)
    assert len(log.read(0)) == log.head()
