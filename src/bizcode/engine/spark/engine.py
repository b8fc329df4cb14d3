"""Questions put to Spark: the same relations and statements, read from the same files by Spark's workers.

The unsealed records, the merges of ids and what a transaction has not committed are few and lie with this process: the
embedded engine reads them, and their columns go along with the question.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from ...clock import Clock
from ...errors import BizError, InvalidQuery, StorageError
from ...log import Log
from ...plan.condition import Condition
from ...plan.select import Select
from ...plan.sql import Parameters, literal
from ...record import EVENT
from ...segments import Segment, SegmentStore
from ...segments.schema import FIXED
from ..engine import Engine, Session
from ..relation import Column
from .cluster import Cluster
from .files import reader
from .translate import translate

__all__ = ["SparkEngine"]

KEPT = 64
"""So many sets of files and of unsealed rows are kept at hand for the questions to come."""

_TYPES = {"bool": "BOOLEAN", "int": "BIGINT", "double": "DOUBLE", "text": "STRING", "json": "STRING"}
_FIXED = {
    "position": "BIGINT", "timestamp": "TIMESTAMP", "version": "BIGINT", "value": "DOUBLE", "value:int": "BIGINT",
}  # fmt: skip
_GLOB = re.compile(r"[\[\]{}*?\\]")
_ESCAPED = r"\\\g<0>"
_names = itertools.count(1)


class SparkEngine(Engine):
    """Answers questions by Spark; everything else is read by the embedded engine.

    Args:
        address: as `check_address` lets it pass.
    """

    def __init__(self, log: Log, segments: SegmentStore, clock: Clock, tz: ZoneInfo, address: str) -> None:
        super().__init__(log, segments, clock, tz)
        self.cluster = Cluster(address)
        self.queries: set[Any] = set()
        """Streams that run; each can `stop()`."""
        self._frames: OrderedDict[Any, Any] = OrderedDict()
        self._frames_lock = threading.Lock()

    def asking(self) -> AbstractContextManager[Session]:
        return self._moment(SparkSession)

    @contextmanager
    def answering(self, session: Session) -> Iterator[Session]:
        made = SparkSession(self, session.view, session.cursor)
        try:
            yield made
        finally:
            made.close()

    def frame(self, key: Any, make: Any) -> Any:
        """A data frame by what it holds, made where it isn't at hand."""
        with self._frames_lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        made = make()
        with self._frames_lock:
            self._frames[key] = made
            while len(self._frames) > KEPT:
                self._frames.popitem(last=False)
        return made

    def close(self) -> None:
        for query in list(self.queries):
            query.stop()
        self._frames.clear()
        super().close()
        self.cluster.close()


class SparkSession(Session):
    """One moment of the store, asked by Spark. `cursor` is the embedded engine's."""

    engine: SparkEngine
    asof = False
    histograms = False

    def __init__(self, engine: SparkEngine, view: Any, cursor: Any) -> None:
        self._segments: dict[str, Segment] = {}
        self._unsealed: dict[str, Mapping[int, Any]] = {}
        self._views: dict[Any, str] = {}
        self._tag = f"bizcode-{next(_names)}"
        super().__init__(engine, view, cursor)
        self.spark = engine.cluster.session()
        self._away = bool(self.place.origin("")) and not engine.cluster.is_here
        """Whether the files lie in a bucket and the workers not on this machine: they fetch what they read."""

    # what relations tell

    def files(self, segments: Sequence[Segment]) -> str:
        paths = {str(self.place.directory / segment.file): segment for segment in segments}
        self._segments |= paths
        return ", ".join(map(literal, paths)) if self._away else self.at_hand(segments)

    def unsealed(self, sql: str, values: Mapping[int, Any]) -> None:
        self._unsealed[sql] = values

    def merged(self, user: str) -> str:
        # Spark takes a subquery for a value only if it can't have two.
        return super().merged(user).replace("(SELECT merged_name", "(SELECT max(merged_name)", 1)

    def number(self, column: str) -> str:
        # Workers that do a part again must come to the same numbers: the value itself serves.
        return column

    def whole_milliseconds(self, names: tuple[str, ...] | None) -> bool:
        # Asked each time: to look at the files here would be to fetch them all.
        parameters = Parameters()
        relation = self.relation(Select(kind=EVENT, names=names), {"t": Column("timestamp")}, parameters)
        found = f"SELECT coalesce(bool_and(epoch_us(t) % 1000 = 0), TRUE) FROM ({relation.sql})"
        return bool(self.fetch(found, parameters)[0][0])

    def _passing(self, select: Select, python: Condition, span: tuple[int, int] | None = None) -> str:
        raise InvalidQuery(
            "a Python function among the conditions can't be put to Spark: write it with `this` or as properties "
            "of where(), or ask without engine="
        )

    # statements

    def fetch(self, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
        return [row for rows in self.batches(sql, parameters) for row in rows]

    def batches(self, sql: str, parameters: Parameters | None = None) -> Iterator[list[tuple[Any, ...]]]:
        try:
            self.spark.addTag(self._tag)
            found = self._frame(sql, parameters).toArrow()
        except BizError:
            raise
        except Exception as error:
            raise _explained(error, self.engine.cluster.address) from error
        finally:
            with suppress(Exception):
                self.spark.removeTag(self._tag)
        for batch in found.to_batches(10_000):
            columns = [_plain(column.to_pylist()) for column in batch.columns]
            yield [*zip(*columns, strict=True)]

    def keep(self, table: str, sql: str, parameters: Parameters | None = None) -> None:
        # Made anew for each statement that reads it: a copy at every worker costs more than it saves.
        self._view(table, self._frame(sql, parameters))

    def _frame(self, sql: str, parameters: Parameters | None) -> Any:
        for text, values in self._unsealed.items():
            if text in sql:
                sql = sql.replace(text, f"SELECT * FROM {self._sent(text, values)}")
        text, values = translate(sql, parameters.values if parameters else [], self._parquet, self._embedded)
        return self.spark.sql(text, args=values)

    def _view(self, key: Any, frame: Any) -> str:
        name = f"bizcode_{next(_names)}"
        frame.createOrReplaceTempView(name)
        self._views[key] = name
        return name

    def _parquet(self, files: list[str], columns: set[str] | None) -> str:
        """The view of some files of the same columns."""
        # Spark's own reader finds out by itself which columns it needs.
        wanted = frozenset(columns) if self._away and columns is not None else None
        key = (tuple(files), wanted)
        if key not in self._views:
            self._view(key, self.engine.frame(key, lambda: self._read(files, wanted)))
        return self._views[key]

    def _read(self, files: list[str], wanted: frozenset[str] | None) -> Any:
        segments = [self._segments[file] for file in files]
        kind = segments[0].kind
        columns = {name: _FIXED.get(name, "STRING") for name in FIXED[kind]}
        if len({segment.name for segment in segments}) == 1:
            present = frozenset().union(*(segment.columns for segment in segments))
            for column in self.view.catalog.columns(kind, segments[0].name):
                if column.column in present:
                    columns[column.column] = _TYPES[column.type]
        if wanted is not None:
            columns = {name: type for name, type in columns.items() if name in wanted} or {
                "position": "BIGINT"
            }
        schema = ", ".join(f"`{name.replace('`', '``')}` {type}" for name, type in columns.items())
        if self._away:
            pieces = [(file, self.place.origin(self._segments[file].file)) for file in files]
            numbers = self.spark.range(0, len(files), 1, len(files))
            return numbers.mapInArrow(reader(pieces, columns), schema)
        # Names of directories may hold what stands for patterns.
        return self.spark.read.schema(schema).parquet(
            *(f"file://{_GLOB.sub(_ESCAPED, file)}" for file in files)
        )

    def _sent(self, text: str, values: Mapping[int, Any]) -> str:
        """Unsealed rows as a relation reads them, sent along. Names a table of the statement."""
        key = (text, repr(sorted(values.items())))
        if key not in self._views:
            statement, numbered = text, [values[n] for n in sorted(values)]
            kept = (key, self.view.erased, self.view.identity)

            def make() -> Any:
                return self._local(
                    statement, {str(n): value for n, value in values.items()} if numbered else None
                )

            frame = make() if self.pending_table in text and self.pending else self.engine.frame(kept, make)
            name = self._view(key, frame)
            self._views[name] = name  # the statement names it as a table
        return self._views[key]

    def _embedded(self, table: str) -> str:
        """The view of what was kept, or of a table of the embedded engine, sent along."""
        if table not in self._views:
            key = (table, self.view.identity, self.view.erased)
            self._view(table, self.engine.frame(key, lambda: self._local(f"SELECT * FROM {table}", None)))
        return self._views[table]

    def _local(self, sql: str, values: Any) -> Any:
        import pyarrow as pa

        found = self.cursor.sql(sql, params=values).to_arrow_table()
        columns = []
        for column in found.columns:
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("us", "UTC"))
            elif not (pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type)):
                column = column.cast(pa.string())
            columns.append(column)
        return self.spark.createDataFrame(pa.table(columns, names=found.column_names))

    # the end

    def interrupt(self) -> None:
        super().interrupt()
        with suppress(Exception):
            self.spark.interruptTag(self._tag)

    def close(self) -> None:
        with suppress(Exception):  # Spark itself may be gone
            for name in set(self._views.values()):
                self.spark.catalog.dropTempView(name)


def _plain(column: list[Any]) -> list[Any]:
    """Sums of whole numbers as such."""
    if any(isinstance(value, Decimal) for value in column):
        return [int(value) if isinstance(value, Decimal) else value for value in column]
    return column


def _explained(error: Exception, address: str) -> Exception:
    name, text = type(error).__name__, str(error).strip().splitlines() or [""]
    if "ARITHMETIC_OVERFLOW" in text[0]:
        return InvalidQuery("a sum or product passes 64 bits, which Spark can't hold: ask without engine=")
    if name in ("AnalysisException", "ParseException"):
        return InvalidQuery(f"Spark can't answer this; ask without engine=: {text[0]}")
    if isinstance(error, InterruptedError):
        return error
    return StorageError(f"Spark at {address} could not answer: {text[0]}")
