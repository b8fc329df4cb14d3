"""JSON objects taken apart into typed leaf columns: every value in the column of its type, so nothing is coerced.

A leaf is a path through nested objects and one of the types "bool", "int", "double", "text", "json"
(a list, as JSON text). What has no column (nulls, empty objects, what lies too deep, properties past
the limit of columns) is the rest: a partial object that is merged back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from .arrow import compute

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["CHUNK", "DEPTH", "EXACT", "Leaf", "Leaves", "Path", "arrow_type"]

Path = tuple[str, ...]
Leaf = tuple[Path, str]

DEPTH = 4
"""Objects nested deeper than this many levels stay whole, in the rest."""

EXACT = 2**53
"""Integers up to this size are doubles without loss."""

CHUNK = 512
"""Rows to add at a time: few enough to stay in the processor's cache and below the garbage collector's threshold."""

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


class Values:
    """The values of one leaf in Arrow arrays, and the rows that have them."""

    __slots__ = ("chunks", "count", "rows", "type")

    def __init__(self, type: str) -> None:
        self.type = type
        self.count = 0
        self.chunks: list[pa.Array] = []
        self.rows: list[range | list[int]] = []

    def add(self, values: Sequence[Any], rows: range | list[int]) -> None:
        """Append values of this type. Raises OverflowError, and adds nothing, for ints beyond 64 bits."""
        import pyarrow as pa

        if self.type == "json":
            values = [orjson.dumps(value).decode() for value in values]
        chunk = pa.array(values, arrow_type(self.type))
        # Texts of more than 2 GB come in parts.
        self.chunks += chunk.chunks if isinstance(chunk, pa.ChunkedArray) else (chunk,)
        self.rows.append(rows)
        self.count += len(rows)

    def row_numbers(self) -> np.ndarray:
        """The row of each value."""
        import numpy as np

        parts = [
            np.arange(rows.start, rows.stop) if isinstance(rows, range) else np.array(rows, np.int64)
            for rows in self.rows
        ]
        return np.concatenate(parts)

    def exact(self) -> bool:
        """Whether each int is a double without loss."""
        bounds = [compute().min_max(chunk).as_py() for chunk in self.chunks]
        return all(bound["min"] >= -EXACT and bound["max"] <= EXACT for bound in bounds)


class Leaves:
    """The leaves of many JSON objects, one row each.

    >>> leaves = Leaves()
    >>> leaves.add(['{"plan":"pro","n":1}', '{"n":2.5,"a":{"b":true}}'])
    >>> {leaf: leaves.column(leaf).to_pylist() for leaf in leaves.found}  # doctest: +NORMALIZE_WHITESPACE
    {(('plan',), 'text'): ['pro', None], (('n',), 'int'): [1, None], (('n',), 'double'): [None, 2.5],
    (('a', 'b'), 'bool'): [None, True]}
    """

    def __init__(self) -> None:
        self.count = 0
        self.found: dict[Leaf, Values] = {}
        self.rest: dict[int, dict[str, Any]] = {}

    def column(self, leaf: Leaf) -> pa.ChunkedArray:
        """A leaf's values with one element per row, null where a row has none."""
        import numpy as np
        import pyarrow as pa

        held = self.found[leaf]
        values = pa.chunked_array(held.chunks, arrow_type(leaf[1]))
        rows = held.row_numbers()
        if held.count == self.count and bool((rows[1:] > rows[:-1]).all()):
            return values
        index = np.full(self.count, -1, np.int64)
        index[rows] = np.arange(len(rows))
        return values.combine_chunks().take(pa.array(index, mask=index < 0))

    def widen(self) -> None:
        """Where a path has both ints and doubles and all ints are exact as doubles, make them doubles."""
        for path, type in list(self.found):
            if type == "int" and (path, "double") in self.found and self.found[path, type].exact():
                held, double = self.found.pop((path, type)), self.found[path, "double"]
                double.chunks += [chunk.cast("float64") for chunk in held.chunks]
                double.rows += held.rows
                double.count += held.count

    def put_back(self, leaf: Leaf) -> None:
        """Move a leaf that gets no column into the rest."""
        held = self.found.pop(leaf)
        values = [value for chunk in held.chunks for value in chunk.to_pylist()]
        for row, value in zip(held.row_numbers().tolist(), values, strict=True):
            self._keep(leaf[0], (row,), orjson.loads(value) if leaf[1] == "json" else value)

    def _keep(self, path: Path, rows: Iterable[int], value: Any) -> None:
        for row in rows:
            place = self.rest.setdefault(row, {})
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value

    def add(self, texts: Sequence[str], numbers: Sequence[int | float | None] | None = None) -> None:
        """Append rows: JSON texts, each an object; `numbers` go into the leaves of the empty path."""
        rows = range(self.count, self.count + len(texts))
        self.count = rows.stop
        self._objects((), orjson.loads(f"[{','.join(texts)}]"), rows)
        if numbers is not None:
            for kind in set(map(type, numbers)) - {type(None)}:
                at = [n for n, number in enumerate(numbers) if type(number) is kind]
                self._typed((), kind, [numbers[n] for n in at], [rows[n] for n in at])

    def _objects(self, prefix: Path, objects: list[dict[str, Any]], rows: range | list[int]) -> None:
        for keys, columns, where in _columns(objects, rows):
            if not keys and prefix:
                for row in where:
                    self._keep(prefix, (row,), {})
            for key, values in zip(keys, columns, strict=True):
                self._values((*prefix, key), values, where)

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
            held = self.found.get(leaf) or Values(leaf[1])
            try:
                held.add(values, rows)
            except OverflowError:
                for row, value in zip(rows, values, strict=True):
                    self._keep(path, (row,), value)
            else:
                self.found[leaf] = held


def _columns(
    objects: list[dict[str, Any]], rows: range | list[int]
) -> Iterator[tuple[Sequence[str], list[list[Any]], range | list[int]]]:
    """Objects that have the same keys together: the keys, the values of each, the objects' rows."""
    keys = tuple(objects[0])
    if set(map(len, objects)) == {len(keys)}:
        try:
            yield keys, _columns_of(keys, objects), rows
            return
        except KeyError:
            pass
    groups: dict[tuple[str, ...], list[int]] = {}
    for n, object in enumerate(objects):
        groups.setdefault(tuple(object), []).append(n)
    if len(groups) > _SHAPES:
        # Nearly every object has keys of its own: go by key instead.
        shapes = groups
        groups = {}
        for shape, at in shapes.items():
            for key in shape or ("",):
                groups.setdefault((key,) if shape else (), []).extend(at)
    for shape, at in groups.items():
        yield shape, _columns_of(shape, [objects[n] for n in at]), [rows[n] for n in at]


def _columns_of(keys: tuple[str, ...], objects: list[dict[str, Any]]) -> list[list[Any]]:
    return [list(map(itemgetter(key), objects)) for key in keys]
