"""Entities: versions without gaps, conflicts, reading by index."""

from __future__ import annotations

import pytest

from ...errors import Conflict
from ..interface import Log
from .base import Contract, event, happened, positions

__all__ = ["EntitiesContract"]


class EntitiesContract(Contract):
    """Events of one thing."""

    def test_versions_are_1_2_3_per_entity(self, log: Log) -> None:
        answers = log.append([happened("Order/1"), happened("Order/2"), happened("Order/1")])
        assert [answer.version for answer in answers] == [1, 1, 2]
        assert log.append([happened("Order/1")])[0].version == 3
        assert [log.entity_version(f"Order/{n}") for n in (1, 2, 3)] == [3, 1, 0]

    def test_expect_is_the_version_before(self, log: Log) -> None:
        log.append([happened("Order/1", expect=0)])
        assert log.append([happened("Order/1", expect=1)])[0].version == 2
        log.append([happened("Order/1", expect=2), happened("Order/1", expect=3)])
        assert log.entity_version("Order/1") == 4

    @pytest.mark.parametrize("wrong", [0, 2, 7])
    def test_another_version_than_expected_is_a_conflict(self, log: Log, wrong: int) -> None:
        log.append([happened("Order/1")])
        with pytest.raises(Conflict, match=rf"Order/1 .*version 1\b.*\b{wrong}\b"):
            log.append([happened("Order/1", expect=wrong)])
        assert log.head() == 1

    def test_a_conflict_stores_nothing_of_its_batch(self, log: Log) -> None:
        with pytest.raises(Conflict):
            log.append([event(id="a"), happened("Order/1"), happened("Order/1", expect=0), event()])
        assert (log.head(), log.entity_version("Order/1"), log.position_of("a")) == (0, 0, None)
        assert positions(log.append([event(id="a")])) == [1]

    def test_a_known_id_comes_before_expect(self, log: Log) -> None:
        log.append([happened("Order/1", id="pay", expect=0)])
        again = log.append([happened("Order/1", id="pay", expect=0)])[0]
        assert (again.position, again.duplicate) == (1, True)

    def test_a_caught_conflict_leaves_the_transaction_usable(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.append([event()])
            with pytest.raises(Conflict):
                tx.append([event(id="a"), happened("Order/1", expect=4)])
            assert positions(tx.append([event(id="a")])) == [2]
        assert positions(log.read(0)) == [1, 2]

    def test_events_come_in_order_of_version(self, log: Log) -> None:
        for n in range(6):
            log.append([happened(f"Order/{n % 2}", data=f'{{"n":{n}}}')])
        assert [row.data for row in log.entity_events("Order/1")] == ['{"n":1}', '{"n":3}', '{"n":5}']
        assert [row.version for row in log.entity_events("Order/0", 1)] == [2, 3]
        assert [row.version for row in log.entity_events("Order/0", 1, 2)] == [2]
        assert list(log.entity_events("Order/0", 3)) == list(log.entity_events("Order/9")) == []

    def test_many_events_come_all(self, log: Log) -> None:
        log.append([happened("Order/1") for _ in range(1_501)])
        assert [row.version for row in log.entity_events("Order/1")] == list(range(1, 1_502))
        assert [row.version for row in log.entity_events("Order/1", 0, 1_000)] == list(range(1, 1_001))

    def test_a_half_read_entity_blocks_nothing(self, log: Log) -> None:
        log.append([happened("Order/1") for _ in range(3)])
        events = log.entity_events("Order/1")
        assert next(events).version == 1
        assert log.append([happened("Order/1")])[0].version == 4
        assert log.head() == 4

    def test_sealed_events_are_still_read_by_entity(self, log: Log) -> None:
        log.append([happened("Order/1"), event(), happened("Order/1")])
        with log.transaction() as tx:
            tx.trim(3)
        assert log.read(0) == []
        assert [row.version for row in log.entity_events("Order/1")] == [1, 2]
        assert log.append([happened("Order/1", expect=2)])[0].version == 3

    def test_entities_are_listed_by_prefix_in_order(self, log: Log) -> None:
        names = ["Order/a", "Order/b", "Order/ä", "Order/🎈", "Order0", "Orde", "Customer/a", "Order/"]
        log.append([happened(name) for name in names for _ in range(3)])
        assert log.entities("Order/") == ["Order/", "Order/a", "Order/b", "Order/ä", "Order/🎈"]
        assert log.entities("Order/", "Order/a") == ["Order/b", "Order/ä", "Order/🎈"]
        assert log.entities("Order/", "Order/aa", 1) == ["Order/b"]
        assert log.entities("Order/", "A", 2) == ["Order/", "Order/a"]
        assert log.entities("Order/", "Z") == log.entities("Z") == log.entities("Order/", "", 0) == []
        assert log.entities("") == sorted(names)

    def test_prefixes_at_the_end_of_the_alphabet_work(self, log: Log) -> None:
        last = "\U0010ffff"
        names = [f"A{last}", f"A{last}{last}", f"A{last}b", "B", last, "A\ud7ff", "A\ue000"]
        log.append([happened(name) for name in names])
        assert log.entities(f"A{last}") == sorted([f"A{last}", f"A{last}{last}", f"A{last}b"])
        assert log.entities(last) == [last]
        assert log.entities("A\ud7ff") == ["A\ud7ff"]

    def test_events_without_entity_are_no_entities(self, log: Log) -> None:
        log.append([event(), event(kind="system")])
        assert log.entities("") == []
        assert list(log.entity_events("")) == []
