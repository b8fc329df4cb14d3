"""State under keys, transactions, snapshots, and the hook before appending."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ...errors import Conflict, QuotaExceeded, StorageError
from ...record import Draft
from ..interface import Log, Transaction
from .base import Contract, event, happened, positions

__all__ = ["StateContract"]


class StateContract(Contract):
    """What moves together with the records."""

    def test_what_was_put_is_got(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.put("a", "k", b"1")
            tx.put("a", "k", b"2")
            tx.put("b", "k", b"")
            tx.put("a", "", bytes(range(256)) * 1000)
        assert (log.get("a", "k"), log.get("b", "k")) == (b"2", b"")
        assert log.get("a", "") == bytes(range(256)) * 1000
        assert log.get("a", "x") is log.get("c", "k") is None

    def test_delete_says_whether_it_was_there(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.put("a", "k", b"1")
            assert tx.delete("a", "k") is True
            assert tx.delete("a", "k") is False
        assert log.get("a", "k") is None

    def test_clear_deletes_by_prefix_and_counts(self, log: Log) -> None:
        with log.transaction() as tx:
            for key in ("x/1", "x/2", "x0", "x", "y"):
                tx.put("a", key, b"")
                tx.put("b", key, b"")
            assert tx.clear("a", "x/") == 2
            assert tx.clear("a", "nothing") == 0
        assert [key for key, _ in log.scan("a")] == ["x", "x0", "y"]
        with log.transaction() as tx:
            assert tx.clear("a") == 3
        assert log.scan("a") == []
        assert len(log.scan("b")) == 5

    def test_scan_is_in_order_of_code_points(self, log: Log) -> None:
        keys = ["", "a", "b", "aa", "Z", "ä", "\uffff", "🎈", "a\x00", "\U0010ffff", "a\U0010ffffb"]
        with log.transaction() as tx:
            for key in keys:
                tx.put("s", key, key.encode())
        assert [key for key, _ in log.scan("s")] == sorted(keys)
        assert [key for key, _ in log.scan("s", "a")] == ["a", "a\x00", "aa", "a\U0010ffffb"]
        assert [key for key, _ in log.scan("s", "a", "a\x00")] == ["aa", "a\U0010ffffb"]
        assert [key for key, _ in log.scan("s", "a\U0010ffff")] == ["a\U0010ffffb"]
        assert [key for key, _ in log.scan("s", "", "a", 2)] == ["a\x00", "aa"]
        assert log.scan("s", "q") == log.scan("q") == log.scan("s", "", "", 0) == []

    def test_a_space_is_cached_until_it_changes(self, log: Log) -> None:
        assert dict(log.cached("s")) == {}
        with log.transaction() as tx:
            tx.put("s", "a", b"1")
        assert dict(log.cached("s")) == {"a": b"1"}
        log.append([event()])
        assert dict(log.cached("s")) == {"a": b"1"}
        with log.transaction() as tx:
            tx.put("s", "a", b"2")
            tx.put("other", "a", b"2")
            assert dict(tx.cached("s")) == {"a": b"2"}
            assert dict(log.cached("s")) == {"a": b"1"}
            tx.delete("s", "a")
            assert dict(tx.cached("s")) == {}
        assert dict(log.cached("s")) == {}
        with log.transaction() as tx:
            tx.put("s", "b", b"3")
            tx.clear("s")
            assert dict(tx.cached("s")) == {}
        assert dict(log.cached("s")) == {}

    def test_what_was_rolled_back_is_not_cached(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.put("s", "a", b"1")
        for value in (b"2", b"3"):
            with pytest.raises(KeyError), log.transaction() as tx:  # noqa: PT012
                tx.put("s", "a", value)
                assert dict(tx.cached("s")) == {"a": value}
                raise KeyError
            assert dict(log.cached("s")) == {"a": b"1"}
        with log.transaction() as tx:
            assert dict(tx.cached("s")) == {"a": b"1"}
            tx.put("s", "b", b"4")
        assert dict(log.cached("s")) == {"a": b"1", "b": b"4"}

    def test_a_cached_space_cant_be_changed_by_its_reader(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.put("s", "a", b"1")
        with pytest.raises(TypeError):
            log.cached("s")["a"] = b"2"  # type: ignore[index]

    # transactions

    def test_a_transaction_is_all_or_nothing(self, log: Log) -> None:
        log.append([event(id="before")])
        with pytest.raises(ZeroDivisionError), log.transaction() as tx:  # noqa: PT012
            tx.append([event(id="a"), happened("Order/1")])
            tx.put("s", "k", b"1")
            tx.trim(1)
            tx.erase([1])
            1 / 0  # noqa: B018
        assert positions(log.read(0)) == [1]
        assert (log.position_of("before"), log.position_of("a")) == (1, None)
        assert (log.get("s", "k"), log.entity_version("Order/1")) == (None, 0)
        assert positions(log.append([event()])) == [2]

    def test_a_transaction_reads_its_own_writes(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.append([event(id="a"), happened("Order/1")])
            tx.put("s", "k", b"1")
            assert (tx.head(), positions(tx.read(0)), tx.position_of("a")) == (2, [1, 2], 1)
            assert (tx.entity_version("Order/1"), tx.entities("Order/")) == (1, ["Order/1"])
            assert [row.version for row in tx.entity_events("Order/1")] == [1]
            assert (tx.get("s", "k"), tx.scan("s")) == (b"1", [("k", b"1")])
            assert positions(tx.append([event(id="a"), event()])) == [1, 3]
            assert positions(tx.at([3])) == [3]

    def test_others_see_a_transaction_at_its_end(self, log: Log) -> None:
        with log.transaction() as tx:
            tx.append([event(), happened("Order/1")])
            tx.put("s", "k", b"1")
            assert (log.head(), log.read(0), log.get("s", "k"), log.entity_version("Order/1")) == (
                0,
                [],
                None,
                0,
            )
        assert (log.head(), log.get("s", "k"), log.entity_version("Order/1")) == (2, b"1", 1)

    def test_a_transaction_is_of_no_use_after_its_end(self, log: Log) -> None:
        with log.transaction() as tx:
            pass
        with pytest.raises(RuntimeError), log.transaction() as failed:
            raise RuntimeError
        for ended in (tx, failed):
            for use in (
                lambda tx=ended: tx.append([event()]),
                lambda tx=ended: tx.append([event(), event()]),
                lambda tx=ended: tx.put("s", "k", b""),
                lambda tx=ended: tx.head(),
            ):
                with pytest.raises(StorageError):
                    use()
        assert log.head() == 0

    def test_a_second_transaction_inside_is_refused(self, log: Log) -> None:
        with log.transaction() as tx:
            with pytest.raises(StorageError), log.transaction():
                pass
            with pytest.raises(StorageError):
                log.append([event()])
            tx.append([event()])
        assert log.head() == 1

    def test_a_snapshot_stays_at_its_moment(self, log: Log) -> None:
        log.append([event(), happened("Order/1")])
        with log.transaction() as tx:
            tx.put("s", "k", b"1")
        with log.snapshot() as then:
            log.append([event(id="late"), happened("Order/1"), happened("Order/2")])
            with log.transaction() as tx:
                tx.put("s", "k", b"2")
                tx.trim(2)
            assert (then.head(), positions(then.read(0))) == (2, [1, 2])
            assert (then.get("s", "k"), dict(then.cached("s"))) == (b"1", {"k": b"1"})
            assert dict(log.cached("s")) == {"k": b"2"}
            assert dict(then.cached("s")) == {"k": b"1"}
            assert (then.entity_version("Order/1"), then.entities("Order/")) == (1, ["Order/1"])
            assert then.position_of("late") is None
            assert log.head() == 5
        assert dict(log.cached("s")) == {"k": b"2"}
        with pytest.raises(StorageError):
            then.head()

    def test_an_error_inside_a_snapshot_passes_through(self, log: Log) -> None:
        with pytest.raises(KeyError), log.snapshot():
            raise KeyError
        log.append([event()])
        assert log.head() == 1

    # the hook

    def test_the_hook_may_change_the_drafts(self, log: Log) -> None:
        log.before_append = lambda tx, drafts: [draft._replace(experiments='{"e":"v"}') for draft in drafts]
        answers = log.append([event(), event()])
        assert [answer.experiments for answer in answers] == ['{"e":"v"}'] * 2
        with log.transaction() as tx:
            tx.append([event()])
        assert [row.experiments for row in log.read(0)] == ['{"e":"v"}'] * 3

    def test_the_hook_may_add_drafts_after_those_given(self, log: Log) -> None:
        def expose(tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
            return [*drafts, event("exposure", kind="system")]

        log.before_append = expose
        assert positions(log.append([event()])) == [1]
        assert positions(log.append([event(), event()])) == [3, 4]
        assert [row.kind for row in log.read(0)] == ["event", "system", "event", "event", "system"]

    def test_the_hook_writes_in_the_same_transaction(self, log: Log) -> None:
        def count(tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
            used = int(tx.get("usage", "n") or b"0") + len(drafts)
            assert int(tx.cached("usage").get("n", b"0")) + len(drafts) == used
            tx.put("usage", "n", str(used).encode())
            if used > 3:
                raise QuotaExceeded(f"{used} records are more than 3")
            tx.append([event("counted", kind="system")])
            return drafts

        log.before_append = count
        log.append([event(), event()])
        with pytest.raises(QuotaExceeded):
            log.append([event(), event()])
        assert positions(log.append([event()])) == [5]
        assert (log.get("usage", "n"), log.head()) == (b"3", 5)

    def test_the_hook_sees_what_others_wrote_to_a_space(self, log: Log) -> None:
        seen: list[dict[str, bytes]] = []

        def look(tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
            seen.append(dict(tx.cached("settings")))
            return drafts

        log.before_append = look
        log.append([event()])
        with log.transaction() as tx:
            tx.put("settings", "a", b"1")
        log.append([event()])
        log.append([event()])
        assert seen == [{}, {"a": b"1"}, {"a": b"1"}]

    # buffered

    def test_buffered_writes_are_there_after_a_flush(self, log: Log) -> None:
        pending = [log.append_later(event(id=f"id-{n}")) for n in range(100)]
        log.flush()
        assert [row.id for row in log.read(0)] == [f"id-{n}" for n in range(100)]
        assert [p.result().position for p in pending] == list(range(1, 101))

    def test_a_buffered_write_answers_without_a_flush(self, log: Log) -> None:
        assert log.append_later(event(id="a")).result().position == 1
        assert log.append_later(event(id="a")).result().duplicate

    def test_buffered_writes_come_before_a_later_transaction(self, log: Log) -> None:
        log.append_later(event(id="a"))
        with log.transaction() as tx:
            assert tx.position_of("a") == 1
            tx.append([event()])

    def test_closing_commits_what_is_buffered(self, log: Log) -> None:
        pending = log.append_later(event(id="a"))
        log.close()
        assert pending.result().position == 1

    def test_one_refused_buffered_write_fails_alone(self, log: Log) -> None:
        drafts = [happened("Order/1", id=f"id-{n}", expect=7 if n in (3, 50) else None) for n in range(60)]
        pending = [log.append_later(draft) for draft in drafts]
        with pytest.raises(Conflict):
            log.flush()
        for n, later in enumerate(pending):
            if n in (3, 50):
                with pytest.raises(Conflict):
                    later.result()
            else:
                assert later.result().position
        assert log.entity_version("Order/1") == 58
        log.flush()

    def test_an_error_that_reached_its_writer_is_not_raised_again(self, log: Log) -> None:
        pending = log.append_later(happened("Order/1", expect=7))
        with pytest.raises(Conflict):
            pending.result()
        log.flush()
