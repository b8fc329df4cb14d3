"""Ranges of the log as a source of Spark's streams. The classes here run in the Python of the driver's machine and of
the workers, which therefore needs bizcode too.

A range is a file below the query's checkpoint, numbered: which files to read how, the rows that no file has, and the
watermark after it; of a join for each side. Spark's offset is the number of the last range. A worker reads a sealed file where it lies, by the
statement that the embedded engine would run.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyspark.sql.datasource import (  # pyright: ignore[reportMissingImports]
    DataSource,
    DataSourceStreamReader,
    InputPartition,
)

from ...plan.sql import literal
from .axis import Reach, Spans
from .files import at_hand

__all__ = [
    "FORMAT",
    "Feed",
    "Piece",
    "Rows",
    "Shape",
    "Tick",
    "canonical",
    "read_range",
    "write_range",
]

FORMAT = "bizcode_log"
BATCH = 10_000
CHUNK = 200_000
NO_WINDOW = 2**63 - 1
"""A watermark that no window's end is after."""
_TYPES = {"number": "id", "order": "ids", "text": "s"}
_ARROW = {"i": pa.int64(), "d": pa.float64(), "s": pa.string()}
_SQL = {"i": "BIGINT", "d": "DOUBLE", "s": "STRING"}
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row holds beside its mark (a watermark that it comes after), position, time, the watermark that it met if
    that matters, and start and end of its span, counted from the mark: how many parts its key has, and of each value how it is read.

    A value is a "number" (columns for ints and doubles), has an "order" (texts too), is a "text" (JSON), or None:
    nothing but the time is needed.
    """

    keys: int
    values: tuple[str | None, ...]

    def columns(self) -> list[tuple[str, str]]:
        """Names and types ("i", "d", "s") beside position, time and mark."""
        found = [(f"k{n}", "s") for n in range(self.keys)]
        for n, kind in enumerate(self.values):
            found += [(f"v{n}{type}", type) for type in (_TYPES[kind] if kind else "")]
        return found

    def ddl(self) -> str:
        """As Spark's schema."""
        fixed = "mark TIMESTAMP, p BIGINT, t BIGINT, m BIGINT, s BIGINT, e BIGINT"
        return ", ".join([fixed, *(f"{name} {_SQL[type]}" for name, type in self.columns())])

    def arrow(self) -> Any:
        """As Arrow's schema."""
        fixed = [("mark", _TIME), *((name, pa.int64()) for name in "ptmse")]
        return pa.schema([*fixed, *((name, _ARROW[type]) for name, type in self.columns())])


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of sealed files: a statement of DuckDB that yields "p", "t", "f", "g", keys and values."""

    sql: str
    values: list[Any]
    files: Mapping[str, tuple[str, ...]]
    """The paths in the statement, and where each can be had from if it isn't there."""
    readings: Mapping[str, str]
    spans: Spans | Reach
    met: tuple[Any, Any]
    """Positions of rows that came behind a watermark that matters, in order, and that watermark."""
    mark: int

    def tables(self, shape: Shape) -> Iterator[Any]:
        import duckdb

        sql = self.sql
        for path, origin in self.files.items():
            sql = sql.replace(literal(path), literal(at_hand(path, origin)))
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET threads = 1; SET enable_progress_bar = false")
            connection.execute("SET autoinstall_known_extensions = false")
            found = connection.sql(sql, params=self.values).to_arrow_reader(CHUNK)
            for batch in found:
                yield canonical(pa.table(batch), shape, self.readings, self.spans, self.met, self.mark)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that were read already, as Arrow's IPC stream."""

    data: bytes

    def tables(self, shape: Shape) -> Iterator[Any]:
        yield pa.ipc.open_stream(self.data).read_all()

    @staticmethod
    def of(table: Any) -> Rows:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return Rows(sink.getvalue().to_pybytes())


@dataclass(frozen=True, slots=True)
class Tick:
    """The watermark after a range, on Spark's axis: a row for which there is no window. It has no nulls, which Spark
    would look for and leave out before it has seen the mark."""

    at: int

    def tables(self, shape: Shape) -> Iterator[Any]:
        schema = shape.arrow()
        fixed = [pa.array([self.at]).cast(_TIME), *(pa.array([n]) for n in (0, 0, NO_WINDOW, 0, 0))]
        yield pa.table([*fixed, *(pa.nulls(1, field.type) for field in list(schema)[6:])], schema=schema)


def canonical(
    table: Any,
    shape: Shape,
    readings: Mapping[str, str],
    spans: Spans | Reach,
    met: tuple[Any, Any],
    mark: int,
) -> Any:
    """Rows as the stream takes them, whatever the columns are that they were read from: those that pass, equal
    keys as equal texts."""
    import numpy

    table = table.filter(table["f"]).filter(table["g"].filter(table["f"]))
    positions, times = table["p"].to_numpy(), table["t"].to_numpy()
    starts, ends = spans.of(times)
    marks = numpy.full(len(times), -(2**62))
    behind, theirs = met
    if len(behind) and len(times):
        place = numpy.minimum(numpy.searchsorted(behind, positions), len(behind) - 1)
        hit = behind[place] == positions
        marks[hit] = theirs[place[hit]]
    at = spans.axis(mark)
    base = at - spans.axis(0)
    fixed = [pa.array(numpy.full(len(times), at)).cast(_TIME)]
    fixed += [pa.array(column) for column in (positions, times, marks, starts - base, ends - base)]
    columns = [_texts(table[f"k{n}"], readings[f"k{n}"], True) for n in range(shape.keys)]
    for n, kind in enumerate(shape.values):
        if kind is not None:
            columns += _values(table[f"v{n}"], readings[f"v{n}"], kind)
    return pa.table([*fixed, *columns], schema=shape.arrow())


def _values(column: Any, reading: str, kind: str) -> list[Any]:
    if kind == "text":
        return [_texts(column, reading, False)]
    types = _TYPES[kind]
    own = {"int": "i", "double": "d", "text": "s"}.get(reading)
    if own is not None:
        return [
            column.cast(_ARROW[type]) if type == own else pa.nulls(len(column), _ARROW[type])
            for type in types
        ]
    encoded = column.combine_chunks().dictionary_encode()
    known = [_parsed(value, reading) for value in encoded.dictionary.to_pylist()]
    found = []
    for type in types:
        wanted = {"i": int, "d": float, "s": str}[type]
        found.append(_taken(encoded, [v if v.__class__ is wanted else None for v in known], _ARROW[type]))
    return found


def _texts(column: Any, reading: str, whole: bool) -> Any:
    """Values as JSON; `whole`: 2.0 as 2, so that equal ones are equal texts."""
    encoded = column.combine_chunks().dictionary_encode()
    known = (_parsed(value, reading) for value in encoded.dictionary.to_pylist())
    return _taken(encoded, [None if value is None else text_of(value, whole) for value in known], pa.string())


def text_of(value: Any, whole: bool) -> str:
    """A value as JSON."""
    if whole and value.__class__ is float and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()


def _parsed(value: Any, reading: str) -> Any:
    return orjson.loads(value) if reading == "mixed" and value is not None else value


def _taken(encoded: Any, values: Sequence[Any], type: Any) -> Any:
    return pa.array(values, type).take(encoded.indices)


# ranges


def write_range(directory: Path, number: int, about: Any, parts: Sequence[Sequence[Any]]) -> None:
    """Put a range where the reader finds it, whole: the parts of each side. `about` is for the one who writes it."""
    path = directory / str(number)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(pickle.dumps((about, [list(side) for side in parts])))
    temporary.replace(path)


def read_range(directory: Path, number: int) -> tuple[Any, list[list[Any]]]:
    """What `write_range` put there."""
    return pickle.loads((directory / str(number)).read_bytes())


class _Part(InputPartition):
    def __init__(self, part: Any) -> None:
        self.part = part


class _Reader(DataSourceStreamReader):
    def __init__(self, directory: str, shape: Shape, side: int) -> None:
        self._directory = Path(directory)
        self._shape = shape
        self._side = side

    def initialOffset(self) -> dict[str, int]:
        return {"range": 0}

    def latestOffset(self, start: dict[str, int], limit: Any) -> dict[str, int]:
        following = start["range"] + 1
        return {"range": following} if (self._directory / str(following)).exists() else start

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[Any]:
        return [
            _Part(part)
            for number in range(start["range"] + 1, end["range"] + 1)
            for part in read_range(self._directory, number)[1][self._side]
        ]

    def read(self, partition: Any) -> Iterator[Any]:
        for table in partition.part.tables(self._shape):
            yield from table.combine_chunks().to_batches(BATCH)

    def commit(self, end: dict[str, int]) -> None:
        for path in self._directory.iterdir():
            if path.name.isdigit() and int(path.name) < end["range"]:
                path.unlink(missing_ok=True)


class Feed(DataSource):
    """The source, by its name in Spark. Options: `directory` of the ranges, `keys` and `values` of the shape, and which
    `side` of a join it is."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def _shape(self) -> Shape:
        kinds = orjson.loads(self.options["values"])
        return Shape(int(self.options["keys"]), tuple(kinds))

    def schema(self) -> str:
        return self._shape().ddl()

    def streamReader(self, schema: Any) -> Any:
        return _Reader(self.options["directory"], self._shape(), int(self.options["side"]))
