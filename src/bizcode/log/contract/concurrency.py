"""Threads: nothing lost, nothing mixed up, everybody served; and news of commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ...errors import Conflict, QuotaExceeded
from ...record import Draft
from ..interface import Log, Transaction
from .base import Contract, event, happened, positions

__all__ = ["ConcurrencyContract"]

THREADS = 6
EACH = 40


def together(*works: Callable[[], object]) -> None:
    """Run them at the same time; raises what one of them raised."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(run, work) for work in works]:
            future.result()


class ConcurrencyContract(Contract):
    """Several at once."""

    def test_concurrent_appends_are_all_stored_each_in_its_order(self, log: Log) -> None:
        answers: dict[int, list[int]] = {n: [] for n in range(THREADS)}

        def write(n: int) -> None:
            for i in range(EACH):
                drafts = [event(data=f"[{n},{i},{k}]") for k in range(1 + i % 3)]
                answers[n] += positions(log.append(drafts))

        together(*(lambda n=n: write(n) for n in range(THREADS)))
        rows = log.read(0)
        assert positions(rows) == list(range(1, log.head() + 1))
        for n in range(THREADS):
            mine = [row for row in rows if row.data.startswith(f"[{n},")]
            assert positions(mine) == answers[n]
            assert [row.data for row in mine] == [
                f"[{n},{i},{k}]" for i in range(EACH) for k in range(1 + i % 3)
            ]

    def test_a_callers_error_is_its_own(self, log: Log) -> None:
        """In a shared commit one caller's Conflict or quota must not touch the others."""

        def guard(tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
            tx.put("seen", drafts[0].data, b"")
            if drafts[0].name == "Refused":
                raise QuotaExceeded("no more")
            return drafts

        log.before_append = guard
        log.append([happened("Order/x", data="first")])
        outcomes: list[str] = []

        def good(n: int) -> None:
            for i in range(EACH):
                log.append([event(id=f"good-{n}-{i}", data=f"good-{n}-{i}")])
                outcomes.append("stored")

        def bad(kind: Draft, error: type[Exception]) -> None:
            for i in range(EACH):
                with pytest.raises(error):
                    log.append([kind._replace(id=f"bad-{i}", data=f"bad-{i}")])
                outcomes.append("refused")

        together(
            lambda: good(1),
            lambda: good(2),
            lambda: bad(event("Refused"), QuotaExceeded),
            lambda: bad(happened("Order/x", expect=0), Conflict),
        )
        assert (outcomes.count("stored"), outcomes.count("refused")) == (2 * EACH, 2 * EACH)
        rows = log.read(0)
        assert positions(rows) == list(range(1, 2 * EACH + 2))
        assert not any(row.data.startswith("bad") for row in rows)
        assert {key for key, _ in log.scan("seen")} == {row.data for row in rows}
        assert log.position_of("bad-0") is None

    def test_one_entity_written_by_many_has_no_gaps(self, log: Log) -> None:
        def write() -> None:
            for _ in range(EACH):
                log.append([happened("Order/1")])

        together(*([write] * THREADS))
        assert [row.version for row in log.entity_events("Order/1")] == list(range(1, THREADS * EACH + 1))

    def test_only_one_wins_an_expected_version(self, log: Log) -> None:
        won: list[int] = []

        def write(n: int) -> None:
            for version in range(EACH):
                try:
                    log.append([happened("Order/1", expect=version)])
                except Conflict:
                    continue
                won.append(version)

        together(*(lambda n=n: write(n) for n in range(4)))
        assert sorted(won) == list(range(log.entity_version("Order/1")))

    def test_the_same_id_from_many_is_stored_once(self, log: Log) -> None:
        found: list[int] = []

        def write() -> None:
            found.extend(log.append([event(id=f"id-{i}")])[0].position for i in range(EACH))

        together(*([write] * THREADS))
        assert sorted(set(found)) == list(range(1, EACH + 1))
        assert log.head() == EACH

    def test_transactions_never_lose_an_update(self, log: Log) -> None:
        def add() -> None:
            for _ in range(EACH):
                with log.transaction() as tx:
                    tx.put("s", "n", str(int(tx.get("s", "n") or b"0") + 1).encode())
                log.append([event()])

        together(*([add] * THREADS))
        assert log.get("s", "n") == str(THREADS * EACH).encode()
        assert log.head() == THREADS * EACH

    def test_a_reader_never_sees_a_gap(self, log: Log) -> None:
        done = threading.Event()

        def write() -> None:
            for _ in range(EACH):
                log.append([event(), event()])

        def follow() -> None:
            last = 0
            while not done.is_set() or last < log.head():
                rows = log.read(last)
                assert positions(rows) == list(range(last + 1, last + 1 + len(rows)))
                last += len(rows)

        def writers() -> None:
            try:
                together(*([write] * 3))
            finally:
                done.set()

        together(writers, follow, follow)

    def test_buffered_writes_of_many_threads_are_all_stored(self, log: Log) -> None:
        def write(n: int) -> None:
            for i in range(EACH):
                log.append_later(event(id=f"{n}-{i}"))

        together(*(lambda n=n: write(n) for n in range(THREADS)))
        log.flush()
        ids = [row.id for row in log.read(0)]
        assert len(ids) == THREADS * EACH
        for n in range(THREADS):
            assert [id for id in ids if id and id.startswith(f"{n}-")] == [f"{n}-{i}" for i in range(EACH)]

    # news

    def test_changes_differ_after_a_commit_only(self, log: Log) -> None:
        before = log.changes()
        assert log.changes() == before
        log.append([event()])
        after = log.changes()
        assert after != before
        log.read(0)
        assert log.changes() == after
        with log.transaction() as tx:
            tx.put("s", "k", b"1")
        assert log.changes() != after

    def test_wait_returns_at_once_when_something_has_changed(self, log: Log) -> None:
        before = log.changes()
        log.append([event()])
        assert log.wait(before, 10) is True

    def test_wait_ends_with_its_timeout(self, log: Log) -> None:
        start = time.monotonic()
        assert log.wait(log.changes(), 0.05) is False
        assert 0.04 < time.monotonic() - start < 2
        assert log.wait(log.changes(), 0) is False

    def test_a_commit_wakes_all_who_wait(self, log: Log) -> None:
        woken: list[bool] = []
        before = log.changes()
        threads = [threading.Thread(target=lambda: woken.append(log.wait(before, 10))) for _ in range(4)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        log.append([event()])
        for thread in threads:
            thread.join()
        assert woken == [True] * 4
        assert time.monotonic() - start < 2

    def test_wake_sends_those_who_wait_home(self, log: Log) -> None:
        woken: list[bool] = []
        before = log.changes()
        threads = [threading.Thread(target=lambda: woken.append(log.wait(before))) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            log.wake()
            threads[0].join(0.01)
        assert woken == [False] * 3
