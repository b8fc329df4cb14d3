"""Any sequence of writes, seals, merges and erasures, against a dict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bizcode.log.sqlite import open_log
from bizcode.record import EVENT, MEASURE, Draft, Stored
from bizcode.segments import SegmentStore

from .conftest import TIME

documents = st.dictionaries(
    st.sampled_from("abc"),
    st.one_of(
        st.none(), st.integers(0, 3), st.just(2.5), st.text("xy", max_size=2), st.just({"in": 1}), st.just({})
    ),
    max_size=3,
)


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.log = open_log(self.directory)
        self.store = SegmentStore(self.directory, self.log)
        self.records: dict[int, Stored] = {}
        self.held = []

    @rule(
        facts=st.lists(
            st.tuples(st.sampled_from("AB"), documents, st.integers(0, 5), st.booleans()),
            min_size=1,
            max_size=6,
        ),
        sealed=st.booleans(),
    )
    def write(self, facts, sealed):
        drafts = [
            Draft(
                MEASURE if measured else EVENT,
                name,
                TIME + at,
                orjson.dumps(data).decode(),
                value=at if measured else None,
            )
            for name, data, at, measured in facts
        ]
        for answer, draft in zip(self.log.append(drafts), drafts, strict=True):
            self.records[answer.position] = Stored(answer.position, *draft[:4], value=draft.value)
        if sealed:
            self.store.seal()

    @rule(part=st.floats(0, 1))
    def seal(self, part):
        self.store.seal(int(self.log.head() * part))

    @rule(all=st.booleans())
    def merge(self, all):
        self.store.merge(all)

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def erase(self, data):
        gone = data.draw(st.lists(st.sampled_from(sorted(self.records)), max_size=3))
        self.finish()
        self.store.erase(gone, lambda tx: tx.erase(gone) and None)
        for position in gone:
            self.records.pop(position, None)

    @rule()
    def begin_to_read(self):
        reading = self.store.rows(0, batch=2)
        sealed = self.store.catalog().sealed_to
        self.held.append((reading, [p for p in sorted(self.records) if p <= sealed]))
        first = next(reading, [])
        self.held[-1] += (first,)

    @rule()
    def finish(self):
        for reading, positions, first in self.held:
            found = [row.position for row in first] + [row.position for rows in reading for row in rows]
            assert found == positions
        self.held = []

    @invariant()
    def everything_is_there_once(self):
        sealed = self.store.catalog().sealed_to
        rows = [row for rows in self.store.rows(0) for row in rows] + self.log.read(sealed)
        assert [row.position for row in rows] == sorted(self.records)
        for row in rows:
            wanted = self.records[row.position]
            assert orjson.loads(row.data) == orjson.loads(wanted.data)
            assert row._replace(data="") == wanted._replace(data="")

    @invariant()
    def the_doctor_finds_nothing(self):
        assert self.store.doctor().problems == []

    def teardown(self):
        self.finish()
        assert self.store.doctor(mend=True).ok
        files = {p.relative_to(self.directory).as_posix() for p in self.directory.rglob("*.parquet")}
        assert files == {s.file for s in self.store.catalog().segments}
        self.log.close()
        shutil.rmtree(self.directory)


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
