"""Properties as typed columns and back: every leaf of a JSON object goes into the column of its path and type.

Nothing is coerced. What has no column (explicit nulls, empty objects, what lies too deep, properties
beyond the limit of columns) stands as JSON in `rest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..record import MEASURE, Stored
from .catalog import Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FIXED", "Leaves", "rebuild", "table_of"]

DEPTH = 4
MOST_COLUMNS = 1_000
EXACT = 2**53
FIXED = (
    "position",
    "timestamp",
    "id",
    "user",
    "experiments",
    "entity",
    "version",
    "value",
    "value:int",
    "rest",
)
_TYPES = {bool: "bool", int: "int", float: "double", str: "text", list: "json"}


class Leaves:
    """Collects the leaves of records, row by row."""

    def __init__(self, most: int = MOST_COLUMNS) -> None:
        self.found: dict[tuple[tuple[str, ...], str], tuple[list[int], list[Any]]] = {}
        self.rest: dict[int, dict[str, Any]] = {}
        self.most = most

    def add(self, row: int, data: dict[str, Any]) -> None:
        """The properties of one record."""
        found = self.found
        for key, value in data.items():
            kind = _TYPES.get(type(value))
            if kind is None:
                self._nested(row, (key,), value)
                continue
            place = found.get(((key,), kind))
            if place is None:
                place = self._place(row, (key,), kind, value)
                if place is None:
                    continue
            place[0].append(row)
            place[1].append(value if kind != "json" else orjson.dumps(value).decode())

    def _place(self, row: int, path: tuple[str, ...], kind: str, value: Any) -> Any:
        if len(self.found) >= self.most:
            self._put_rest(row, path, value)
            return None
        place = self.found[path, kind] = ([], [])
        return place

    def _nested(self, row: int, path: tuple[str, ...], value: Any) -> None:
        if not isinstance(value, dict) or not value or len(path) >= DEPTH:
            kind = _TYPES.get(type(value))
            if kind is None:
                self._put_rest(row, path, value)
                return
            place = self.found.get((path, kind)) or self._place(row, path, kind, value)
            if place is not None:
                place[0].append(row)
                place[1].append(value if kind != "json" else orjson.dumps(value).decode())
            return
        for key, item in value.items():
            self._nested(row, (*path, key), item)

    def _put_rest(self, row: int, path: tuple[str, ...], value: Any) -> None:
        target = self.rest.setdefault(row, {})
        for part in path[:-1]:
            target = target.setdefault(part, {})
        target[path[-1]] = value

    def widen(self) -> None:
        """Ints beside floats of the same leaf become floats, where each is exact as a float."""
        for path, kind in list(self.found):
            if kind != "int" or (path, "double") not in self.found:
                continue
            rows, values = self.found[path, "int"]
            if all(-EXACT <= value <= EXACT for value in values):
                del self.found[path, "int"]
                doubles = self.found[path, "double"]
                doubles[0].extend(rows)
                doubles[1].extend(map(float, values))


def arrow_type(kind: str) -> Any:
    import pyarrow as pa

    return {"bool": pa.bool_(), "int": pa.int64(), "double": pa.float64()}.get(kind, pa.string())


def table_of(
    rows: Sequence[Stored], name_column: Callable[[tuple[str, ...], str], str]
) -> tuple[Any, Leaves]:
    """Records of one kind and name as a table sorted by (timestamp, position).

    Args:
        rows: the records.
        name_column: gives the physical column of a (path, type).
    """
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: (row.time, row.position))
    leaves = Leaves()
    loads = orjson.loads
    for n, row in enumerate(rows):
        if row.data != "{}":
            leaves.add(n, loads(row.data))
    leaves.widen()
    count = len(rows)
    columns: dict[str, Any] = {
        "position": pa.array([row.position for row in rows], pa.int64()),
        "timestamp": pa.array([row.time for row in rows], pa.timestamp("us", "UTC")),
        "id": pa.array([row.id for row in rows], pa.string()),
        "user": pa.array([row.user for row in rows], pa.string()),
        "experiments": pa.array([row.experiments for row in rows], pa.string()),
    }
    if any(row.entity is not None for row in rows):
        columns["entity"] = pa.array([row.entity for row in rows], pa.string())
        columns["version"] = pa.array([row.version for row in rows], pa.int64())
    if rows and rows[0].kind == MEASURE:
        columns |= _values([row.value for row in rows])
    for (path, kind), (at, found) in leaves.found.items():
        if len(at) == count and at[0] == 0 and kind != "double":
            values = found
        else:
            values = [None] * count
            for n, value in zip(at, found, strict=True):
                values[n] = value
        columns[name_column(path, kind)] = pa.array(values, arrow_type(kind))
    rest = None
    if leaves.rest:
        rest = [orjson.dumps(leaves.rest[n]).decode() if n in leaves.rest else None for n in range(count)]
    columns["rest"] = pa.array(rest if rest is not None else [None] * count, pa.string())
    return pa.table(columns), leaves


def _values(values: list[Any]) -> dict[str, Any]:
    """The numbers of measurements: whole if all are, else as floats where each is exact."""
    import pyarrow as pa

    ints = [value if isinstance(value, int) else None for value in values]
    floats = [value if isinstance(value, float) else None for value in values]
    if not any(value is not None for value in floats):
        return {"value:int": pa.array(ints, pa.int64())}
    if all(value is None or -EXACT <= value <= EXACT for value in ints):
        return {"value": pa.array([float(value) for value in values], pa.float64())}
    return {"value": pa.array(floats, pa.float64()), "value:int": pa.array(ints, pa.int64())}


def rebuild(table: pa.Table, kind: str, name: str, columns: Iterable[Column]) -> list[Stored]:
    """The records of a table, in its order, as they were stored."""
    count = table.num_rows
    present = set(table.column_names)
    data: list[dict[str, Any]] = [{} for _ in range(count)]
    nested = []
    for column in columns:
        if column.column not in present:
            continue
        values = table.column(column.column).to_pylist()
        if column.type == "json":
            values = [None if value is None else orjson.loads(value) for value in values]
        if len(column.path) > 1:
            nested.append((column.path, values))
            continue
        key = column.path[0]
        for row, value in zip(data, values, strict=True):
            if value is not None:
                row[key] = value
    for path, values in nested:
        for row, value in zip(data, values, strict=True):
            if value is not None:
                _put(row, path, value)
    for row, text in zip(data, table.column("rest").to_pylist(), strict=True):
        if text is not None:
            _merge(row, orjson.loads(text))
    nothing: list[Any] = [None] * count

    def column_of(name: str) -> list[Any]:
        return table.column(name).to_pylist() if name in present else nothing

    import pyarrow as pa

    times = table.column("timestamp").cast(pa.int64()).to_pylist()
    values = [
        real if real is not None else whole
        for real, whole in zip(column_of("value"), column_of("value:int"), strict=True)
    ]
    dumps = orjson.dumps
    return [
        Stored(position, kind, name, time, dumps(row).decode(), user, id, entity, version, value, experiments)
        for position, time, row, user, id, entity, version, value, experiments in zip(
            table.column("position").to_pylist(),
            times,
            data,
            column_of("user"),
            column_of("id"),
            column_of("entity"),
            column_of("version"),
            values,
            column_of("experiments"),
            strict=True,
        )
    ]


def _put(row: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        row = row.setdefault(part, {})
    row[path[-1]] = value


def _merge(row: dict[str, Any], rest: dict[str, Any]) -> None:
    for key, value in rest.items():
        known = row.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            row[key] = value
