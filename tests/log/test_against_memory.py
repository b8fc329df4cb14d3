"""Whatever is done to it, the log on SQLite answers as the naive one in memory does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bizcode.errors import BizError
from bizcode.log.memory import MemoryLog
from bizcode.log.sqlite import SqliteLog, open_log
from bizcode.record import Draft

IDS = st.sampled_from(["a", "b", "c", "STORE-1", "STORE-3"])
ENTITIES = st.sampled_from(["Order/1", "Order/2", "Order/", "Customer/ä"])
KEYS = st.text(alphabet="a/\x00ä🎈\U0010ffff", max_size=3)
SPACES = st.sampled_from(["s", "t"])
VALUES = st.binary(max_size=4)
POSITIONS = st.integers(-1, 30)


def event(
    kind: str, name: str, time: int, data: str, user: str | None, id: str | None, value: float | None
) -> Draft:
    return Draft(kind, name, time, data, user, id, value=value)


def happened(entity: str, id: str | None, expect: int | None) -> Draft:
    return Draft("entity", "Order.paid", 0, "{}", id=id, entity=entity, expect=expect)


plain = st.builds(
    event,
    st.sampled_from(["event", "measure", "system"]),
    st.sampled_from(["A", "B"]),
    st.integers(-(2**40), 2**40),
    st.sampled_from(["{}", '{"a":1}']),
    st.none() | st.just("u"),
    st.none() | IDS,
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
)
events = st.builds(happened, ENTITIES, st.none() | IDS, st.none() | st.integers(0, 3))
batches = st.lists(plain | events, max_size=6) | st.lists(plain, min_size=25, max_size=30)
changes = st.one_of(
    st.tuples(st.just("append"), batches),
    st.tuples(st.just("put"), SPACES, KEYS, VALUES),
    st.tuples(st.just("delete"), SPACES, KEYS),
    st.tuples(st.just("clear"), SPACES, KEYS),
    st.tuples(st.just("trim"), POSITIONS),
    st.tuples(st.just("erase"), st.lists(POSITIONS, max_size=4)),
    st.tuples(st.just("cached"), SPACES),
)


class Comparison(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.log: SqliteLog = open_log(self.directory)
        self.other: SqliteLog | None = None
        self.memory = MemoryLog()
        self.memory.store_id = self.log.store_id

    def teardown(self) -> None:
        self.log.close()
        if self.other is not None:
            self.other.close()
        shutil.rmtree(self.directory)

    def own(self, drafts: list[Draft]) -> list[Draft]:
        """Ids that look like those of records without one need this store's id."""
        return [
            draft._replace(id=draft.id.replace("STORE", self.log.store_id)) if draft.id else draft
            for draft in drafts
        ]

    def same(self, ask: Callable[[Any], Any], log: Any = None) -> None:
        assert outcome(ask, log or self.log) == outcome(ask, self.memory)

    @rule(drafts=batches)
    def append(self, drafts: list[Draft]) -> None:
        drafts = self.own(drafts)
        self.same(lambda log: log.append(drafts))

    @rule(steps=st.lists(changes, max_size=5), fails=st.booleans())
    def transact(self, steps: list[tuple[Any, ...]], fails: bool) -> None:
        def run(log: Any) -> list[Any]:
            answers: list[Any] = []
            try:
                with log.transaction() as tx:
                    for name, *given in steps:
                        if name == "append":
                            given = [self.own(given[0])]
                        answers.append(outcome(lambda tx, n=name, g=given: getattr(tx, n)(*g), tx))
                        answers.append((tx.head(), tx.read(0), tx.scan("s"), dict(tx.cached("t"))))
                    if fails:
                        raise KeyError("rolled back")
            except KeyError:
                answers.append("failed")
            return answers

        self.same(run)

    @rule(drafts=st.lists(plain, max_size=3), key=KEYS)
    def write_through_another(self, drafts: list[Draft], key: str) -> None:
        """As another process would."""
        if self.other is None:
            self.other = open_log(self.directory)
        drafts = self.own(drafts)

        def run(log: Any) -> Any:
            with log.transaction() as tx:
                tx.put("t", key, b"other")
                return tx.append(drafts)

        assert run(self.other) == run(self.memory)

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = open_log(self.directory)

    @rule()
    def vacuum(self) -> None:
        self.log.vacuum()

    @rule(after=POSITIONS, until=st.none() | POSITIONS, limit=st.none() | st.integers(0, 4))
    def read(self, after: int, until: int | None, limit: int | None) -> None:
        self.same(lambda log: log.read(after, until, limit))

    @rule(positions=st.lists(POSITIONS, max_size=5))
    def at(self, positions: list[int]) -> None:
        self.same(lambda log: log.at(positions))

    @rule(entity=ENTITIES, after=st.integers(0, 3), until=st.none() | st.integers(0, 4))
    def entity(self, entity: str, after: int, until: int | None) -> None:
        self.same(lambda log: (log.entity_version(entity), list(log.entity_events(entity, after, until))))

    @rule(prefix=st.sampled_from(["", "Order/", "C", "Order/1"]), after=ENTITIES | st.just(""))
    def entities(self, prefix: str, after: str) -> None:
        self.same(lambda log: (log.entities(prefix, after), log.entities(prefix, after, 1)))

    @rule(prefix=KEYS, after=KEYS, limit=st.none() | st.integers(0, 3), space=SPACES)
    def scan(self, prefix: str, after: str, limit: int | None, space: str) -> None:
        self.same(lambda log: (log.scan(space, prefix, after, limit), log.get(space, prefix)))

    @precondition(lambda self: self.other is not None)
    @rule(space=SPACES)
    def other_sees_the_same(self, space: str) -> None:
        self.same(lambda log: (log.head(), log.read(0), dict(log.cached(space))), self.other)

    @invariant()
    def alike(self) -> None:
        self.same(lambda log: (log.head(), log.read(0), dict(log.cached("s")), dict(log.cached("t"))))
        ids = ["a", "b", "c", *(f"{self.log.store_id}-{n}" for n in range(8))]
        self.same(lambda log: [log.position_of(id) for id in ids])


def outcome(ask: Callable[[Any], Any], log: Any) -> Any:
    """What was answered, or the kind of error."""
    try:
        return ask(log)
    except BizError as error:
        return type(error)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
