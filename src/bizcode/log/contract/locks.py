"""Locks by name: alone, shared, freed."""

from __future__ import annotations

import threading

from ..interface import Log
from .base import Contract

__all__ = ["LocksContract"]


class LocksContract(Contract):
    """Who works on what."""

    def test_a_lock_is_held_by_one_at_a_time(self, log: Log) -> None:
        held = log.locks.take("work")
        assert held is not None
        assert log.locks.take("work") is None
        assert log.locks.take("work", shared=True) is None
        other = log.locks.take("other")
        assert other is not None
        held.release()
        held.release()
        again = log.locks.take("work")
        assert again is not None
        again.release()
        other.release()

    def test_those_who_share_a_lock_keep_out_who_wants_it_alone(self, log: Log) -> None:
        first, second = log.locks.take("read", shared=True), log.locks.take("read", shared=True)
        assert first is not None
        assert second is not None
        assert log.locks.take("read") is None
        first.release()
        assert log.locks.take("read") is None
        second.release()
        alone = log.locks.take("read")
        assert alone is not None
        alone.release()

    def test_who_waits_for_a_lock_gets_it_when_it_is_freed(self, log: Log) -> None:
        held = log.locks.take("work")
        assert held is not None
        order: list[str] = []

        def wait() -> None:
            mine = log.locks.take("work", wait=True)
            assert mine is not None
            order.append("got")
            mine.release()

        thread = threading.Thread(target=wait)
        thread.start()
        order.append("freed")
        held.release()
        thread.join(10)
        assert order == ["freed", "got"]
