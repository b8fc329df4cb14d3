"""JSON objects taken apart into typed leaf columns: every value in the column of its type, so nothing is coerced.

A leaf is a path through nested objects and one of the types "bool", "int", "double", "text", "json"
(a list, as JSON text). What has no column (nulls, empty objects, what lies too deep, properties past
the limit of columns) is the rest: a partial object that is merged back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["DEPTH", "EXACT", "Leaf", "Leaves", "Path", "arrow_type", "take_apart"]

Path = tuple[str, ...]
Leaf = tuple[Path, str]

DEPTH = 4
"""Objects nested deeper than this many levels stay whole, in the rest."""

EXACT = 2**53
"""Integers up to this size are doubles without loss."""

_CHUNK = 2_048  # Few containers alive at once keep the garbage collector out of the way.
_SHAPES = 64
_TYPES: dict[type, str] = {str: "text", int: "int", float: "double", bool: "bool", list: "json"}


def arrow_type(type: str) -> pa.DataType:
    """The Arrow type of a leaf's column."""
    import pyarrow as pa

    return {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "double": pa.float64(),
        "text": pa.string(),
        "json": pa.string(),
    }[type]


@dataclass(slots=True)
class Values:
    """The values of one leaf, and the rows that have them: None for all rows of the chunk."""

    values: list[Any] = field(default_factory=list)
    rows: list[range | list[int]] = field(default_factory=list)

    def add(self, values: Sequence[Any], rows: range | list[int]) -> None:
        self.values += values
        self.rows.append(rows)

    def positions(self) -> np.ndarray:
        """The row of each value."""
        import numpy as np

        parts = [
            np.arange(rows.start, rows.stop) if isinstance(rows, range) else np.array(rows, np.int64)
            for rows in self.rows
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class Leaves:
    """The leaves of many JSON objects, one row each."""

    def __init__(self) -> None:
        self.count = 0
        self.found: dict[Leaf, Values] = {}
        self.rest: dict[int, dict[str, Any]] = {}

    def column(self, leaf: Leaf) -> pa.Array:
        """A leaf's values as an array with one element per row, null where a row has none."""
        import numpy as np
        import pyarrow as pa

        held = self.found[leaf]
        values = [orjson.dumps(v).decode() for v in held.values] if leaf[1] == "json" else held.values
        array = pa.array(values, arrow_type(leaf[1]))
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        rows = held.positions()
        if len(rows) == self.count and (self.count == 0 or bool((rows[1:] > rows[:-1]).all())):
            return array
        index = np.full(self.count, -1, np.int64)
        index[rows] = np.arange(len(rows))
        return array.take(pa.array(index, mask=index < 0))

    def widen(self) -> None:
        """Where a path has both ints and doubles and all ints are exact as doubles, make them doubles."""
        for path, type in list(self.found):
            if type != "int" or (path, "double") not in self.found:
                continue
            held = self.found[path, "int"]
            if min(held.values) >= -EXACT and max(held.values) <= EXACT:
                double = self.found[path, "double"]
                double.values += map(float, held.values)
                double.rows += held.rows
                del self.found[path, "int"]

    def put_back(self, leaf: Leaf) -> None:
        """Move a leaf that gets no column into the rest."""
        held = self.found.pop(leaf)
        for row, value in zip(held.positions().tolist(), held.values, strict=True):
            self._keep(leaf[0], (row,), value)

    def _keep(self, path: Path, rows: Iterable[int], value: Any) -> None:
        for row in rows:
            place = self.rest.setdefault(row, {})
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value

    def add(self, documents: list[dict[str, Any]]) -> None:
        """Append rows."""
        start = self.count
        self.count += len(documents)
        self._objects((), documents, range(start, self.count))

    def _objects(self, prefix: Path, objects: list[dict[str, Any]], rows: range | list[int]) -> None:
        for keys, same, where in _shapes(objects, rows):
            if not keys and prefix:
                for row in where:
                    self._keep(prefix, (row,), {})
            for key in keys:
                self._values((*prefix, key), list(map(itemgetter(key), same)), where)

    def _values(self, path: Path, values: list[Any], rows: range | list[int]) -> None:
        kinds = set(map(type, values))
        if len(kinds) == 1:
            self._typed(path, kinds.pop(), values, rows)
            return
        for kind in kinds:
            at = [n for n, value in enumerate(values) if type(value) is kind]
            self._typed(path, kind, [values[n] for n in at], [rows[n] for n in at])

    def _typed(self, path: Path, kind: type, values: list[Any], rows: range | list[int]) -> None:
        if kind is dict:
            if len(path) < DEPTH:
                self._objects(path, values, rows)
            else:
                for row, value in zip(rows, values, strict=True):
                    self._keep(path, (row,), value)
        elif kind is type(None):
            self._keep(path, rows, None)
        else:
            leaf = path, _TYPES[kind]
            held = self.found.get(leaf)
            if held is None:
                held = self.found[leaf] = Values()
            held.add(values, rows)


def _shapes(
    objects: list[dict[str, Any]], rows: range | list[int]
) -> Iterator[tuple[Sequence[str], list[dict[str, Any]], range | list[int]]]:
    """Objects by their keys: (keys, the objects that have them, their rows)."""
    keys = list(map(tuple, objects))
    if keys.count(keys[0]) == len(keys):
        yield keys[0], objects, rows
        return
    groups: dict[tuple[str, ...], list[int]] = {}
    for n, shape in enumerate(keys):
        groups.setdefault(shape, []).append(n)
    if len(groups) <= _SHAPES:
        for shape, at in groups.items():
            yield shape, [objects[n] for n in at], [rows[n] for n in at]
        return
    # Nearly every object has keys of its own: go by key instead.
    by_key: dict[str, list[int]] = {}
    empty: list[int] = []
    for n, shape in enumerate(keys):
        if not shape:
            empty.append(n)
        for key in shape:
            by_key.setdefault(key, []).append(n)
    if empty:
        yield (), [objects[n] for n in empty], [rows[n] for n in empty]
    for key, at in by_key.items():
        yield (key,), [objects[n] for n in at], [rows[n] for n in at]


def take_apart(texts: Sequence[str]) -> Leaves:
    """The leaves of JSON texts, each an object.

    >>> leaves = take_apart(['{"plan":"pro","n":1}', '{"n":2.5,"a":{"b":true}}'])
    >>> {leaf: held.values for leaf, held in leaves.found.items()}
    {(('plan',), 'text'): ['pro'], (('n',), 'int'): [1], (('n',), 'double'): [2.5], (('a', 'b'), 'bool'): [True]}
    """
    leaves = Leaves()
    for n in range(0, len(texts), _CHUNK):
        leaves.add(orjson.loads(f"[{','.join(texts[n : n + _CHUNK])}]"))
    return leaves
