"""One DuckDB instance per process, one cursor per query, one schema per opened store."""

from __future__ import annotations

import contextlib
import itertools
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from .. import when
from ..clock import Clock
from ..errors import BizError, StorageError
from ..log import Log
from ..plan import predicates
from ..plan.condition import Among, And, Condition
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import Stored
from ..segments import Segment, SegmentStore
from ..unit import current
from . import rows, tail
from .facts import Facts
from .pending import seen_from_inside
from .relation import Column, Relation, build
from .tail import Tail, View

__all__ = ["Engine", "Session"]

S = TypeVar("S", bound="Session")
_numbers = itertools.count(1)
_interrupt: ContextVar[Interrupt | None] = ContextVar("bizcode_interrupt", default=None)


class Interrupt:
    """Stops the queries that run in a context: awaiting code was cancelled."""

    def __init__(self) -> None:
        self._sessions: list[Any] = []
        self.fired = False

    def enter(self) -> None:
        """Make it the one of the present context."""
        _interrupt.set(self)

    def add(self, session: Any) -> None:
        self._sessions.append(session)
        if self.fired:
            raise InterruptedError("the query was cancelled")

    def fire(self) -> None:
        self.fired = True
        for session in self._sessions:
            session.interrupt()


class Engine:
    """Answers plans over one store."""

    def __init__(self, log: Log, segments: SegmentStore, clock: Clock, tz: ZoneInfo) -> None:
        import duckdb

        self.log = log
        self.alerted: Callable[..., Any] | None = None
        """Set by the store: defines an alert on a query."""
        self.segments = segments
        self.clock = clock
        self.tz = tz
        self.schema = f"store_{next(_numbers)}"
        self.connection = duckdb.connect(":memory:bizcode")
        self.connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true;")
        self.connection.execute("SET autoinstall_known_extensions = false; SET enable_progress_bar = false;")
        self.connection.execute(f"CREATE SCHEMA {self.schema}")
        self.tail = Tail(log, segments, self.connection.cursor(), self.schema)
        self.facts = Facts(self.connection.cursor(), self.schema)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads on which awaited queries run."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(8, thread_name_prefix="bizcode-query")
            return self._pool

    def range_start(self, since: object) -> int | None:
        """The instant that a `since` means now."""
        return when.resolve_range(since, None, self.clock.now(), self.tz).since

    def range_start_at(self, since: object, now: int) -> int | None:
        """The instant that a `since` means at an instant."""
        return when.resolve_range(since, None, now, self.tz).since

    def session(self) -> AbstractContextManager[Session]:
        """One moment to query: it sees every write that returned before."""
        return self._moment(Session)

    def asking(self) -> AbstractContextManager[Session]:
        """A session for a question, which another engine may answer; what isn't one reads by `session`."""
        return self.session()

    @contextmanager
    def answering(self, session: Session) -> Iterator[Session]:
        """A session of the same moment for a question over much of the history, which another engine may answer."""
        yield session

    @contextmanager
    def _moment(self, kind: type[S]) -> Iterator[S]:
        self.log.flush()
        with self.segments.reading():
            view = self.tail.follow()
            cursor = self.connection.cursor()
            session: S | None = None
            try:
                session = kind(self, view, cursor)
                interrupt = _interrupt.get()
                if interrupt is not None:
                    interrupt.add(session)
                yield session
            except Exception as error:
                raise _explained(error) from error
            finally:
                if session is not None:
                    session.close()
                cursor.close()
                self.tail.release(view)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self.connection.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self.connection.close()


def _explained(error: Exception) -> Exception:
    if isinstance(error, BizError):
        return error
    name = type(error).__module__.partition(".")[0].lstrip("_")
    if name == "duckdb":
        text = str(error)
        if type(error).__name__ == "InterruptException":
            return error
        if type(error).__name__ == "ConnectionException" or "No open result set" in text:
            return StorageError("the business was closed while a question was being answered")
        if "arquet" in text or "IO Error" in text:
            return StorageError(f"a segment can't be read; `bizcode doctor` names it: {text.splitlines()[0]}")
    return error


class Session:
    """A consistent moment of one store and a cursor on it."""

    asof = True
    """Whether statements may have ASOF joins."""

    histograms = True
    """Whether they may have histograms, and sums beyond 64 bits of whole numbers as they are."""

    def __init__(self, engine: Engine, view: View, cursor: Any) -> None:
        self.engine = engine
        self.view = view
        self.cursor = cursor
        self.now = engine.clock.now()
        self.tz = engine.tz
        self.store_id = engine.log.store_id
        self.place = engine.segments.place
        self.pending: list[Stored] = []
        self.pending_table = "pending"
        self._ranges: dict[int, when.Range] = {}
        self._tables = itertools.count(1)
        self._pending_types: dict[tuple[Any, ...], frozenset[str]] = {}
        unit = current(engine.log)
        if unit is not None and unit.drafts:
            self.pending = tail.stored_drafts(unit.drafts)
            self._load_pending()
            self.view = seen_from_inside(engine.tail, view, self.pending, cursor)
        self.merges = self.view.merges

    def _load_pending(self) -> None:
        columns = ", ".join(f'"{name}" {type}' for name, type in tail._COLUMNS)
        self.cursor.execute(f"CREATE OR REPLACE TEMP TABLE pending ({columns})")
        tail.insert(self.cursor, "pending", self.pending)

    # what relations ask

    def range(self, select: Select) -> when.Range:
        """The selection's range, resolved at this session's now."""
        return when.resolve_range(select.since, select.until, self.now, self.tz)

    def merged(self, user: str) -> str:
        """SQL of the user that an id counts as."""
        # Renamed, so that a `user` of the outer query isn't taken for the table's own.
        names = f'(SELECT alias AS merged_alias, "user" AS merged_name FROM {self.merges})'
        return f"coalesce((SELECT merged_name FROM {names} WHERE merged_alias = {user}), {user})"

    def tail_types(
        self, kind: str, name: str | None, paths: list[tuple[str, ...]], pending: bool
    ) -> dict[tuple[str, ...], frozenset[str]]:
        """The JSON types at each path of unsealed records."""
        if not pending:
            return dict(self.engine.tail.types(self.view, kind, name, paths))
        where, values = ("kind = $1", [kind]) if name is None else ("kind = $1 AND name = $2", [kind, name])
        found = tail.probe(self.cursor, "pending", paths, where, values)
        return {path: frozenset(types) for path, types in found.items()}

    def rest_types(self, segment: Segment, path: tuple[str, ...]) -> frozenset[str]:
        """The JSON types at a path of a segment's `rest`."""
        return self.engine.facts.rest_types(self, segment, path)

    def files(self, segments: Sequence[Segment]) -> str:
        """Segments' files as SQL texts, for a relation to read."""
        return self.at_hand(segments)

    def at_hand(self, segments: Sequence[Segment]) -> str:
        """Segments' files as SQL texts, to be read by this process. Raises StorageError for one that is missing."""
        from ..plan.sql import literal
        from ..segments.files import explained

        with explained(f"fetching segments from {self.place.shown}", self.place.shown):
            self.place.fetch(segment.file for segment in segments)
            return ", ".join(literal(str(self.place.local(segment.file))) for segment in segments)

    # what plans ask

    def relation(
        self,
        select: Select,
        columns: Mapping[str, Column],
        parameters: Parameters,
        span: tuple[int, int] | None = None,
    ) -> Relation:
        """SQL of the selected records with typed columns, for plans to build on.

        A Python predicate among the conditions is run here, row by row, on what the rest lets through.
        `span`: only records after the first position and up to the second.
        """
        columns = {alias: self._declarative(select, column) for alias, column in columns.items()}
        declarative, python = predicates.split(select.where)
        if python is None:
            return build(self, select, columns, parameters, span=span)
        select = replace(select, where=declarative)
        return build(self, select, columns, parameters, self._passing(select, python, span), span)

    def _declarative(self, select: Select, column: Column) -> Column:
        """A column whose condition needs Python, with the positions that it lets through in its place."""
        if column.condition is None:
            return column
        declarative, python = predicates.split(column.condition)
        if python is None:
            return column
        # A funnel's step may lie outside the range that bounds its first step: no range here.
        among = Among(self._passing(Select(kind=select.kind, names=select.names, where=declarative), python))
        return replace(column, condition=And((declarative, among)))

    def _passing(self, select: Select, python: Condition, span: tuple[int, int] | None = None) -> str:
        """A temporary table of the positions of the records that a Python condition lets through."""
        table = f"passing_{next(self._tables)}"
        self.cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} (position BIGINT)")
        # Noted until the end, because in a unit the records are read by this cursor too.
        found = array("q")
        for batch in rows.records(self, select, newest_first=False, span=span):
            found.extend(record._position for record in batch if python.matches(record))
        for at in range(0, len(found), rows.CHUNK):
            positions = found[at : at + rows.CHUNK].tolist()
            self.cursor.execute(f"INSERT INTO {table} SELECT unnest($1::BIGINT[])", [positions])
        return table

    def whole_milliseconds(self, names: tuple[str, ...] | None) -> bool:
        """Whether all times of these events are whole milliseconds, as browsers give them."""
        return self.engine.facts.whole_milliseconds(self, names)

    def unsealed(self, sql: str, values: Mapping[int, Any]) -> None:
        """Told each part of a relation that reads records which no file has, with its numbered values."""

    def number(self, column: str) -> str:
        """SQL of a number for each row of a grouping by that column, which is quicker to join by."""
        return "row_number() OVER ()"

    def fetch(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self.cursor.execute(sql, parameters.values if parameters else None).fetchall()

    def batches(self, sql: str, parameters: Parameters) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a statement, some thousands at a time."""
        found = self.cursor.execute(sql, parameters.values)
        while rows := found.fetchmany(10_000):
            yield rows

    def keep(self, table: str, sql: str, parameters: Parameters | None = None) -> None:
        """Run a statement once, for later ones of this session to read its rows as a table."""
        self.cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS {sql}", parameters.values if parameters else None
        )

    def interrupt(self) -> None:
        """Stop what is running, from another thread."""
        import duckdb

        with contextlib.suppress(duckdb.ConnectionException):  # it has ended in the meantime
            self.cursor.interrupt()

    def close(self) -> None:
        """The moment is over."""
