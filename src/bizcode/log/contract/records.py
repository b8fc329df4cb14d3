"""Records: positions, reading, ids, sealing away, erasing."""

from __future__ import annotations

import pytest

from ...errors import StorageError
from ...record import Draft, Stored
from ..interface import Appended, Log
from .base import Contract, event, happened, positions

__all__ = ["RecordsContract"]


class RecordsContract(Contract):
    """Facts in, facts out."""

    def test_an_empty_log_has_nothing(self, log: Log) -> None:
        assert log.head() == 0
        assert log.read(0) == []
        assert log.at([1, 2]) == []
        assert log.check() == []

    def test_positions_are_1_2_3(self, log: Log) -> None:
        assert positions(log.append([event()])) == [1]
        assert positions(log.append([event(), event()])) == [2, 3]
        assert log.head() == 3

    def test_appending_nothing_does_nothing(self, log: Log) -> None:
        assert log.append([]) == []
        assert log.head() == 0

    def test_an_answer_has_position_and_experiments(self, log: Log) -> None:
        assert log.append([event(experiments='{"a":"b"}')]) == [Appended(1, None, '{"a":"b"}', False)]

    def test_every_field_comes_back(self, log: Log) -> None:
        drafts = [
            Draft(
                "event",
                "Checkout started",
                -1,
                '{"ä":"🎈\\u0000"}',
                "u\x001",
                "id-1",
                None,
                None,
                '{"e":"v"}',
            ),
            Draft("measure", "api.latency", 2**62, "{}", None, None, None, 0.1 + 0.2),
            Draft("measure", "count", 0, "{}", "ü", None, None, 2**63 - 1),
            Draft("entity", "Order.created", 5, '{"a":1}', None, None, "Order/ö/1"),
            Draft("system", "identify", 5, '{"a":1}'),
        ]
        log.append(drafts)
        expected = [
            Stored(
                1,
                "event",
                "Checkout started",
                -1,
                '{"ä":"🎈\\u0000"}',
                "u\x001",
                "id-1",
                experiments='{"e":"v"}',
            ),
            Stored(2, "measure", "api.latency", 2**62, "{}", value=0.1 + 0.2),
            Stored(3, "measure", "count", 0, "{}", "ü", value=2**63 - 1),
            Stored(4, "entity", "Order.created", 5, '{"a":1}', entity="Order/ö/1", version=1),
            Stored(5, "system", "identify", 5, '{"a":1}'),
        ]
        assert log.read(0) == expected
        assert all(type(row) is Stored for row in log.read(0))

    def test_an_int_stays_an_int_and_a_float_a_float(self, log: Log) -> None:
        values = [1, 1.0, -(2**63), 1e300, 2**53 + 1]
        log.append([event(kind="measure", value=value) for value in values])
        found = [row.value for row in log.read(0)]
        assert [(type(value), value) for value in found] == [(type(value), value) for value in values]

    @pytest.mark.parametrize("count", [1, 2, 30, 1_200])
    def test_batches_of_any_size_keep_their_order(self, log: Log, count: int) -> None:
        log.append([event(data=f'{{"n":{n}}}', id=f"id-{n}" if n % 3 else None) for n in range(count)])
        assert [row.data for row in log.read(0)] == [f'{{"n":{n}}}' for n in range(count)]
        assert positions(log.read(0)) == list(range(1, count + 1))

    def test_read_is_bounded_by_after_until_and_limit(self, log: Log) -> None:
        log.append([event() for _ in range(10)])
        assert positions(log.read(3)) == [4, 5, 6, 7, 8, 9, 10]
        assert positions(log.read(3, 6)) == [4, 5, 6]
        assert positions(log.read(3, None, 2)) == [4, 5]
        assert positions(log.read(3, 4, 2)) == [4]
        assert log.read(10) == log.read(99) == log.read(5, 5) == log.read(0, None, 0) == []

    def test_at_finds_positions_in_order_and_once(self, log: Log) -> None:
        log.append([event() for _ in range(5)])
        assert positions(log.at([4, 2, 9, 2, 0, -1])) == [2, 4]
        assert positions(log.at(iter([5]))) == [5]
        assert log.at([]) == []
        assert positions(log.at(range(1, 3_000))) == [1, 2, 3, 4, 5]

    # ids

    def test_the_same_id_again_stores_nothing(self, log: Log) -> None:
        first = log.append([event(id="a", data='{"n":1}')])[0]
        again = log.append([event(id="a", data='{"n":2}')])[0]
        assert (first.position, first.duplicate) == (1, False)
        assert (again.position, again.duplicate) == (1, True)
        assert [row.data for row in log.read(0)] == ['{"n":1}']

    @pytest.mark.parametrize("others", [0, 100])
    def test_an_id_twice_in_a_batch_is_stored_once(self, log: Log, others: int) -> None:
        more = [event(id=f"other-{n}") for n in range(others)]
        log.append([event(id="known")])
        answers = log.append([event(id="a"), event(id="known"), event(id="a"), *more, event(id="a")])
        assert [(a.position, a.duplicate) for a in answers[:3]] == [(2, False), (1, True), (2, True)]
        assert (answers[-1].position, answers[-1].duplicate) == (2, True)
        assert log.head() == 2 + others

    def test_a_given_id_leads_to_its_position(self, log: Log) -> None:
        log.append([event(), event(id="pay-7")])
        assert log.position_of("pay-7") == 2
        assert log.position_of("pay-8") is None
        assert log.position_of("") is None

    def test_a_record_without_id_is_found_by_store_and_position(self, log: Log) -> None:
        log.append([event(), event(id="x")])
        assert log.position_of(f"{log.store_id}-1") == 1
        assert log.position_of(f"{log.store_id}-2") is None, "it has another id"
        for wrong in ("-0", "-3", "--1", "-01", "-1.0", "-", "-٣", "-1 ", "-99999999999999999999999"):
            assert log.position_of(f"{log.store_id}{wrong}") is None, wrong
        assert log.position_of("other-1") is None
        assert log.position_of("1") is None

    def test_a_given_id_that_looks_like_another_records_wins(self, log: Log) -> None:
        log.append([event(), event(id=f"{log.store_id}-1")])
        assert log.position_of(f"{log.store_id}-1") == 2

    # sealing away

    def test_trimmed_records_leave_the_tail(self, log: Log) -> None:
        log.append([event(id="a"), happened("Order/1"), event(kind="measure", value=1), event()])
        with log.transaction() as tx:
            tx.trim(3)
            assert positions(tx.read(0)) == [4]
        assert positions(log.read(0)) == [4]
        assert positions(log.at([1, 2, 3, 4])) == [2, 4]
        assert log.head() == 4

    def test_ids_outlive_trimming(self, log: Log) -> None:
        log.append([event(id="a"), event()])
        with log.transaction() as tx:
            tx.trim(2)
        assert log.position_of("a") == 1
        assert log.position_of(f"{log.store_id}-2") == 2
        assert log.append([event(id="a")])[0] == Appended(1, duplicate=True)

    def test_the_head_never_goes_back(self, log: Log) -> None:
        log.append([event() for _ in range(3)])
        with log.transaction() as tx:
            tx.trim(3)
        assert log.head() == 3
        assert positions(log.append([event()])) == [4]
        with log.transaction() as tx:
            assert tx.erase([4]) == 1
        assert log.head() == 4
        assert positions(log.append([event(), event()])) == [5, 6]

    def test_trimming_less_again_changes_nothing(self, log: Log) -> None:
        log.append([event() for _ in range(4)])
        with log.transaction() as tx:
            tx.trim(3)
        with log.transaction() as tx:
            tx.trim(1)
        assert positions(log.read(0)) == [4]

    def test_trimming_beyond_the_head_hides_nothing_to_come(self, log: Log) -> None:
        log.append([event()])
        with log.transaction() as tx:
            tx.trim(1_000)
        log.append([event()])
        assert positions(log.read(0)) == [2]

    # erasing

    def test_erased_records_are_gone_with_their_ids(self, log: Log) -> None:
        log.append([event(id="a"), event(), happened("Order/1", id="b"), happened("Order/1")])
        with log.transaction() as tx:
            assert tx.erase([1, 2, 3, 3, 77]) == 3
        assert positions(log.read(0)) == [4]
        assert [log.position_of(id) for id in ("a", "b", f"{log.store_id}-2")] == [None, None, None]
        assert positions(log.append([event(id="a")])) == [5]

    def test_versions_of_what_remains_dont_change(self, log: Log) -> None:
        log.append([happened("Order/1") for _ in range(3)])
        with log.transaction() as tx:
            tx.erase([2])
        assert [row.version for row in log.entity_events("Order/1")] == [1, 3]
        assert log.append([happened("Order/1")])[0].version == 4

    def test_ids_of_sealed_records_can_be_erased(self, log: Log) -> None:
        log.append([event(id="a"), event(), event(id="c")])
        with log.transaction() as tx:
            tx.trim(3)
        with log.transaction() as tx:
            assert tx.erase([1, 2]) == 0, "they are in the segments"
        assert [log.position_of(id) for id in ("a", f"{log.store_id}-2", "c")] == [None, None, 3]

    def test_erasing_twice_finds_nothing(self, log: Log) -> None:
        log.append([event()])
        with log.transaction() as tx:
            tx.erase([1])
        with log.transaction() as tx:
            assert tx.erase([1]) == 0
            assert tx.erase([]) == 0

    def test_vacuum_changes_nothing_to_be_read(self, log: Log) -> None:
        log.append([event(id=f"id-{n}") for n in range(50)])
        with log.transaction() as tx:
            tx.trim(40)
            tx.erase([45])
        before = log.read(0), log.head()
        log.vacuum()
        assert (log.read(0), log.head()) == before
        assert positions(log.append([event()])) == [51]

    # the end

    def test_a_closed_log_refuses(self, log: Log) -> None:
        log.append([event()])
        log.close()
        log.close()
        calls = [
            log.head,
            log.flush,
            log.changes,
            log.size,
            log.check,
            log.vacuum,
            lambda: log.read(0),
            lambda: log.get("a", "b"),
            lambda: log.cached("a"),
            lambda: log.append([event()]),
            lambda: log.append_later(event()),
            lambda: log.transaction().__enter__(),
            lambda: log.snapshot().__enter__(),
            lambda: log.wait(0, 0),
            lambda: list(log.entity_events("Order/1")),
        ]
        for call in calls:
            with pytest.raises(StorageError):
                call()

    def test_size_is_a_number_of_bytes(self, log: Log) -> None:
        log.append([event(data='{"text":"' + "x" * 1000 + '"}')])
        assert log.size() >= 1000
