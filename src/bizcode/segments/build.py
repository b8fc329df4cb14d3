"""Records of one name into one Arrow table with the physical columns of a segment, sorted by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..record import ENTITY
from .leaves import CHUNK, Leaf, Leaves
from .schema import FIXED, REST, Column, Schema, Seen

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["Rows"]

_TEXTS = {"user": 5, "id": 6, "entity": 7, "experiments": 10}
_NUMBERS = {"position": 0, "time": 3, "version": 8}
_DATA, _VALUE = 4, 9
_TYPES = {type(None): "null", dict: "object", str: "text", int: "int", float: "double", bool: "bool"}


class Rows:
    """Records of one kind and name, gathered column by column."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.first = 0
        self.count = 0
        self.leaves = Leaves()
        self._waiting: list[list[Any]] = [[] for _ in range(11)]
        self._chunks: dict[str, list[pa.Array]] = {name: [] for name in (*_TEXTS, *_NUMBERS)}

    def add(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append records in order of position, given as the columns of `Stored`."""
        for held, values in zip(self._waiting, columns, strict=True):
            held += values
        if not self.count:
            self.first = columns[0][0]
        self.count += len(columns[0])
        if len(self._waiting[0]) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        waiting = self._waiting
        for name, column in _TEXTS.items():
            self._chunks[name].append(pa.array(waiting[column], pa.string()))
        for name, column in _NUMBERS.items():
            self._chunks[name].append(pa.array(waiting[column], pa.int64()))
        self.leaves.add(waiting[_DATA], waiting[_VALUE] if "value" in FIXED[self.kind] else None)
        self._waiting = [[] for _ in range(11)]

    def table(self, schema: Schema) -> tuple[Schema, list[Column], pa.Table]:
        """The schema grown by these records, the leaf columns that they have, and their table."""
        import numpy as np
        import pyarrow as pa

        if self._waiting[0]:
            self._flush()
        fixed = {name: pa.chunked_array(chunks) for name, chunks in self._chunks.items()}
        positions, times = fixed["position"].to_numpy(), fixed["time"].to_numpy()
        leaves = self.leaves
        leaves.widen()
        values = {type: leaves.column(((), type)) for type in ("double", "int") if ((), type) in leaves.found}
        for type in values:
            del leaves.found[(), type]

        schema = schema.grow(_extents(leaves, times), ())
        present = [column for column in schema.columns if (column.path, column.type) in leaves.found]
        for leaf in leaves.found.keys() - {(column.path, column.type) for column in present}:
            leaves.put_back(leaf)
        schema = schema.grow((), _seen(leaves.rest, times))

        held: dict[str, Any] = {
            "position": fixed["position"],
            "timestamp": fixed["time"].cast(pa.timestamp("us", "UTC")),
            "id": fixed["id"],
            "user": fixed["user"],
            "experiments": fixed["experiments"],
        }
        entities = fixed["entity"]
        if "entity" in FIXED[self.kind] and (self.kind == ENTITY or entities.null_count < self.count):
            held |= {"entity": entities, "version": fixed["version"]}
        held |= {{"double": "value", "int": "value:int"}[type]: column for type, column in values.items()}
        held |= {column.column: leaves.column((column.path, column.type)) for column in present}
        held[REST] = _rest(leaves)
        table = pa.table(held)
        if not bool((times[1:] >= times[:-1]).all()):
            table = table.take(pa.array(np.lexsort((positions, times))))
        return schema, present, table


def _rest(leaves: Leaves) -> pa.Array:
    import pyarrow as pa

    if not leaves.rest:
        return pa.nulls(leaves.count, pa.string())
    rest: list[str | None] = [None] * leaves.count
    for row, value in leaves.rest.items():
        rest[row] = orjson.dumps(value).decode()
    return pa.array(rest, pa.string())


def _extents(leaves: Leaves, times: np.ndarray) -> list[tuple[Leaf, int, int]]:
    """Each leaf, commonest type of a path first, with its lowest and highest time."""
    found = []
    low, high = int(times.min()), int(times.max())
    for leaf, held in leaves.found.items():
        if held.count == leaves.count:
            found.append((leaf, low, high))
        else:
            at = times[held.row_numbers()]
            found.append((leaf, int(at.min()), int(at.max())))
    order = {path: n for n, (path, _) in enumerate(leaves.found)}
    return sorted(found, key=lambda f: (order[f[0][0]], -leaves.found[f[0]].count, f[0][1]))


def _seen(rest: dict[int, dict[str, Any]], times: np.ndarray) -> list[Seen]:
    """What the rest holds, by top-level property."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row, value in rest.items():
        at = int(times[row])
        for key, held in value.items():
            type = _TYPES.get(held.__class__, "json")
            low, high = found.get((key, type), (at, at))
            found[key, type] = (min(low, at), max(high, at))
    return [Seen(key, type, low, high) for (key, type), (low, high) in found.items()]
