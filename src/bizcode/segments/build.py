"""Records of one name into one Arrow table with the physical columns of a segment, sorted by time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..record import ENTITY, Stored
from .leaves import EXACT, Leaf, Leaves, arrow_type, take_apart
from .schema import FIXED, REST, Column, Schema, Seen

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["build"]

_BIG = 2**63


def build(schema: Schema, rows: Sequence[Stored]) -> tuple[Schema, list[Column], pa.Table]:
    """The schema grown by these records, the leaf columns that they have, and their table."""
    import numpy as np
    import pyarrow as pa

    held: dict[str, Sequence[Any]] = dict(zip(Stored._fields, zip(*rows, strict=True), strict=True))
    positions = np.array(held["position"], np.int64)
    times = np.array(held["time"], np.int64)
    leaves = take_apart(held["data"])
    leaves.widen()
    _put_back_big(leaves)
    schema = schema.grow(_extents(leaves, times), ())
    present = [column for column in schema.columns if (column.path, column.type) in leaves.found]
    without = leaves.found.keys() - {(c.path, c.type) for c in present}
    for leaf in without:
        leaves.put_back(leaf)
    schema = schema.grow((), _seen(leaves.rest, times))

    arrays: dict[str, pa.Array] = {
        "position": pa.array(positions),
        "timestamp": pa.array(times).cast(pa.timestamp("us", "UTC")),
    }
    for name in ("id", "user", "experiments"):
        arrays[name] = pa.array(held[name], pa.string())
    if "entity" in FIXED[schema.kind] and (
        schema.kind == ENTITY or any(e is not None for e in held["entity"])
    ):
        arrays["entity"] = pa.array(held["entity"], pa.string())
        arrays["version"] = pa.array(held["version"], pa.int64())
    if "value" in FIXED[schema.kind]:
        arrays |= _values(held["value"])
    for column in present:
        arrays[column.column] = leaves.column((column.path, column.type))
    rest: list[str | None] = [None] * leaves.count
    for row, value in leaves.rest.items():
        rest[row] = orjson.dumps(value).decode()
    arrays[REST] = pa.array(rest, pa.string())
    table = pa.table(arrays)
    if len(rows) > 1 and not bool((times[1:] >= times[:-1]).all() and (positions[1:] > positions[:-1]).all()):
        table = table.take(pa.array(np.lexsort((positions, times))))
    return schema, present, table


def _put_back_big(leaves: Leaves) -> None:
    for leaf, held in list(leaves.found.items()):
        if leaf[1] == "int" and max(held.values) >= _BIG:
            leaves.put_back(leaf)


def _extents(leaves: Leaves, times: np.ndarray) -> list[tuple[Leaf, int, int]]:
    """Each leaf, commonest type of a path first, with its lowest and highest time."""
    found = []
    low, high = int(times.min()), int(times.max())
    for leaf, held in leaves.found.items():
        if len(held.values) == leaves.count:
            found.append((leaf, low, high))
        else:
            at = times[held.positions()]
            found.append((leaf, int(at.min()), int(at.max())))
    order = {path: n for n, (path, _) in enumerate(leaves.found)}
    return sorted(found, key=lambda f: (order[f[0][0]], -len(leaves.found[f[0]].values), f[0][1]))


def _seen(rest: dict[int, dict[str, Any]], times: np.ndarray) -> list[Seen]:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for row, value in rest.items():
        at = int(times[row])
        for key, held in value.items():
            type = _TYPES.get(held.__class__, "json")
            low, high = found.get((key, type), (at, at))
            found[key, type] = (min(low, at), max(high, at))
    return [Seen(key, type, low, high) for (key, type), (low, high) in found.items()]


_TYPES = {type(None): "null", dict: "object", str: "text", int: "int", float: "double", bool: "bool"}


def _values(values: Sequence[int | float | None]) -> dict[str, pa.Array]:
    """The numbers measured: ints and floats in their columns, ints as doubles where both occur and it is exact."""
    import pyarrow as pa

    kinds = set(map(type, values))
    ints = [v for v in values if type(v) is int] if int in kinds else []
    if float in kinds and ints and min(ints) >= -EXACT and max(ints) <= EXACT:
        kinds.discard(int)
    found: dict[str, pa.Array] = {}
    if float in kinds:
        real = float if int in kinds else (int, float)
        found["value"] = pa.array([v if isinstance(v, real) else None for v in values], arrow_type("double"))
    if int in kinds:
        found["value:int"] = pa.array([v if type(v) is int else None for v in values], arrow_type("int"))
    return found
