"""The unsealed records, followed by position into an in-memory table, so that a query pays for what is new only.

Identity merges and retractions are followed with them: they decide how every record is read.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..log import Log, Reader
from ..record import MEASURE, SYSTEM, Draft, Stored
from ..segments import Catalog, SegmentStore
from .identity import Identity
from .shared import SharedTable

__all__ = ["MERGES", "PENDING", "Tail", "View", "retracted_key"]

PENDING = 2**62
"""Positions from here on are records of an open transaction."""

RECENT = 256

MERGES = 'alias VARCHAR, "user" VARCHAR'

_COLUMNS = (
    ("position", "BIGINT"),
    ("kind", "VARCHAR"),
    ("name", "VARCHAR"),
    ("timestamp", "TIMESTAMPTZ"),
    ("user", "VARCHAR"),
    ("id", "VARCHAR"),
    ("entity", "VARCHAR"),
    ("version", "BIGINT"),
    ("value_int", "BIGINT"),
    ("value", "DOUBLE"),
    ("experiments", "VARCHAR"),
    ("data", "VARCHAR"),
)


def retracted_key(position: int) -> str:
    """The key of a retraction in the state space "retracted"."""
    return f"{position:020d}"


@dataclass(frozen=True, slots=True)
class View:
    """What a query sees: one moment of the catalog, the tail, the merges and the retractions."""

    catalog: Catalog
    sealed_to: int
    head: int
    names: dict[tuple[str, str], tuple[int, int, int]]
    """(kind, name) -> rows in the tail, their lowest and highest time."""
    retracted: dict[tuple[str, str], frozenset[int]]
    merged: bool
    table: str
    """Where the rows are, and perhaps others that aren't of this moment: by `sealed_to` and `head` they are told."""
    merges: str
    """Where the merges are: alias, user."""
    values: dict[str, frozenset[str]]
    """Of each metric in the tail whether its numbers are "int", "double" or both."""
    identity: tuple[int, int] = (0, 0)
    """How often merges were begun again, and joined."""
    erased: bytes = b""
    """Differs after something was erased."""


@dataclass(slots=True)
class _State:
    position: int = 0
    sealed_to: int = 0
    erased: bytes = b""
    retracted: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    stats: dict[tuple[str, str], list[int]] = field(default_factory=dict)


class Tail:
    """Follows one log into tables of one DuckDB schema."""

    def __init__(self, log: Log, segments: SegmentStore, connection: Any, schema: str) -> None:
        self.log = log
        self.segments = segments
        self._connection = connection
        self._lock = threading.Lock()
        self._state = _State()
        self._identity = Identity()
        self._changes: int | None = None
        self._trimmed = 0
        self._view: View | None = None
        self._recent: list[Stored] = []
        """The newest rows of the table, at most RECENT."""
        self._probes: dict[tuple[str, str | None, tuple[str, ...]], tuple[int, set[str]]] = {}
        columns = ", ".join(f'"{name}" {type}' for name, type in _COLUMNS)
        self._rows = SharedTable(connection, f"{schema}.tail", columns)
        self._merges = SharedTable(connection, f"{schema}.merged", MERGES)

    def release(self, view: View) -> None:
        """The query that followed has ended."""
        with self._lock:
            self._rows.leave(view.table)
            self._merges.leave(view.merges)

    def follow(self) -> View:
        """The view of now: every write that returned before this call is in it. `release` must follow."""
        with self._lock:
            view = self._followed()
            self._rows.enter(view.table)
            self._merges.enter(view.merges)
            return view

    def _followed(self) -> View:
        changes = self.log.changes()
        if self._view is None or changes != self._changes:
            self._view = self._catch_up()
            self._changes = changes
        return self._view

    def _catch_up(self) -> View:
        state = self._state
        with self.log.snapshot() as reader:
            catalog = self.segments.catalog(reader)
            erased = reader.get("settings", "erased") or b""
            missed = state.position < catalog.sealed_to
            if erased != state.erased or missed:
                self._restart(reader, erased)
                state = self._state
            head = reader.head()
            rows = reader.read(max(state.position, catalog.sealed_to))
        self._insert(rows)
        for row in rows:
            if row.kind == SYSTEM:
                self._system(row)
        if catalog.sealed_to > state.sealed_to:
            state.sealed_to = catalog.sealed_to
            self._recount()
        else:
            self._count(rows)
        if state.sealed_to > self._trimmed:
            self._rows.keep(f"position > {state.sealed_to}")
            self._trimmed = state.sealed_to
        state.position = max(head, state.position)
        self._identity.flush(self._connection, self._merges)
        return View(
            catalog=catalog,
            sealed_to=catalog.sealed_to,
            head=state.position,
            names={key: (s[0], s[1], s[2]) for key, s in state.stats.items() if s[0]},
            retracted={key: frozenset(found) for key, found in state.retracted.items() if found},
            merged=bool(self._identity),
            table=self._rows.name,
            merges=self._merges.name,
            values={
                name: frozenset(type for type, seen in (("int", s[3]), ("double", s[4])) if seen)
                for (kind, name), s in state.stats.items()
                if kind == MEASURE
            },
            identity=(self._identity.replayed, self._identity.joined),
            erased=self._state.erased,
        )

    def user(self, id: str) -> str:
        """The name under which an id counts."""
        return self._identity.user(id)

    def identity(self) -> Identity:
        """A copy of the merges of now."""
        with self._lock:
            return self._identity.copy()

    def _restart(self, reader: Reader, erased: bytes) -> None:
        """Begin again from the kept state: something was erased, or system records were sealed unseen."""
        self._rows.keep("FALSE")
        self._trimmed = 0
        self._state = _State(erased=erased)
        self._probes.clear()
        self._recent = []
        for key, value in reader.scan("retracted"):
            self._retract(int(key), orjson.loads(value))
        self._identity.load(reader.scan("merge"))
        # What the kept state holds already must not be applied twice from the tail.
        self._state.position = 0

    def _system(self, row: Stored) -> None:
        if row.name == "retract":
            data = orjson.loads(row.data)
            self._retract(data["position"], data)
        elif row.name == "identify":
            data = orjson.loads(row.data)
            self._identity.merge(data["alias"], data["user"], row.position)
        elif row.name == "unidentify":
            self._identity.undo(orjson.loads(row.data)["alias"], row.position)

    def _retract(self, position: int, data: dict[str, Any]) -> None:
        self._state.retracted.setdefault((data["kind"], data["name"]), set()).add(position)

    def _count(self, rows: list[Stored]) -> None:
        stats = self._state.stats
        for row in rows:
            found = stats.get((row.kind, row.name))
            if found is None:
                found = stats[row.kind, row.name] = [1, row.time, row.time, 0, 0]
            else:
                found[0] += 1
                if row.time < found[1]:
                    found[1] = row.time
                elif row.time > found[2]:
                    found[2] = row.time
            if row.value is not None:
                found[3 if isinstance(row.value, int) else 4] = 1

    def _recount(self) -> None:
        self._state.stats = {
            (kind, name): [rows, low, high, ints, doubles]
            for kind, name, rows, low, high, ints, doubles in self._connection.execute(
                f"SELECT kind, name, count(*), min(epoch_us(timestamp)), max(epoch_us(timestamp)), count(value_int), count(value) "
                f"FROM {self._rows.name} WHERE position > {self._state.sealed_to} GROUP BY ALL"
            ).fetchall()
        }

    def _insert(self, rows: list[Stored]) -> None:
        insert(self._connection, self._rows.name, rows)
        self._recent = [*self._recent, *rows[-RECENT:]][-RECENT:]

    def types(
        self, view: View, kind: str, name: str | None, paths: list[tuple[str, ...]]
    ) -> dict[tuple[str, ...], frozenset[str]]:
        """The JSON types seen at each path in a view's records of that kind and name (None: of all names).
        Looks only at what came since it was asked last."""
        with self._lock:
            if view.table != self._rows.name:
                # Its rows have left the table of now, and with them what was known of their types.
                where, values = _of(kind, name, view.sealed_to)
                found_then = probe(self._connection, view.table, paths, where, values)
                return {path: frozenset(types) for path, types in found_then.items()}
            known = {path: self._probes.get((kind, name, path), (0, set())) for path in paths}
            behind = {path: found for path, found in known.items() if found[0] < self._state.position}
            if behind:
                since = min(found[0] for found in behind.values())
                if self._recent and self._recent[0].position <= since:
                    rows = [row for row in self._recent if row.position > since and row.kind == kind]
                    found_now = types_in([row for row in rows if name in (None, row.name)], list(behind))
                else:
                    where, values = _of(kind, name, since)
                    found_now = probe(self._connection, self._rows.name, list(behind), where, values)
                for path, (_, types) in behind.items():
                    types |= found_now[path]
                    self._probes[kind, name, path] = (self._state.position, types)
            return {path: frozenset(found[1]) for path, found in known.items()}


def _of(kind: str, name: str | None, after: int) -> tuple[str, list[Any]]:
    """SQL of the records of a kind and name after a position, with its values."""
    where = f"kind = $1 AND position > {after}"
    return (where, [kind]) if name is None else (f"{where} AND name = $2", [kind, name])


_TYPES = {
    "VARCHAR": "text",
    "BIGINT": "int",
    "UBIGINT": "int",
    "DOUBLE": "double",
    "BOOLEAN": "bool",
    "ARRAY": "json",
    "OBJECT": "object",
    "NULL": "null",
}


_PYTHON = {
    str: "text",
    int: "int",
    float: "double",
    bool: "bool",
    list: "json",
    dict: "object",
    type(None): "null",
}


def probe(
    connection: Any,
    table: str,
    paths: list[tuple[str, ...]],
    where: str,
    values: list[Any],
    column: str = "data",
) -> dict[tuple[str, ...], set[str]]:
    """The JSON types that occur at each path of a JSON text column."""
    from ..plan.sql import pointer

    if not paths:
        return {}
    parts = ", ".join(f"list(DISTINCT json_type({column}, {pointer(path)}))" for path in paths)
    row = connection.execute(f"SELECT {parts} FROM {table} WHERE {where}", values).fetchall()[0]
    return {
        path: {_TYPES[type] for type in found or () if type is not None}
        for path, found in zip(paths, row, strict=True)
    }


def types_in(rows: list[Stored], paths: list[tuple[str, ...]]) -> dict[tuple[str, ...], set[str]]:
    """The same of a few records that are at hand: a statement takes longer than reading them."""
    found: dict[tuple[str, ...], set[str]] = {path: set() for path in paths}
    for row in rows:
        data = orjson.loads(row.data)
        for path, types in found.items():
            value = data
            for part in path:
                if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                    value = value[int(part)]
                elif isinstance(value, dict) and part in value:
                    value = value[part]
                else:
                    break
            else:
                types.add(_PYTHON[type(value)])
    return found


def insert(connection: Any, table: str, rows: list[Stored]) -> None:
    """Put records into a tail table. Three ways, each the fastest at its size."""
    if not rows:
        return
    found = dict(zip(Stored._fields, map(list, zip(*rows, strict=True)), strict=True))
    numbers = found["value"]
    found["timestamp"] = found["time"]
    found["value_int"] = [number if isinstance(number, int) else None for number in numbers]
    found["value"] = [number if isinstance(number, float) else None for number in numbers]
    columns = [found[name] for name, _ in _COLUMNS]
    if len(rows) == 1:
        connection.execute(
            f"INSERT INTO {table} VALUES ($1,$2,$3,make_timestamptz($4::BIGINT),$5,$6,$7,$8,$9,$10,$11,$12)",
            [values[0] for values in columns],
        )
        return
    if len(rows) <= 2_000:
        parts = [f"unnest(${n + 1}::{type}[])" for n, (_, type) in enumerate(_COLUMNS)]
        parts[3] = "make_timestamptz(unnest($4::BIGINT[]))"
        connection.execute(f"INSERT INTO {table} SELECT {', '.join(parts)}", columns)
        return
    import pyarrow as pa

    arrow = {"BIGINT": pa.int64(), "VARCHAR": pa.string(), "DOUBLE": pa.float64(), "TIMESTAMPTZ": pa.int64()}
    batch = pa.table(
        [pa.array(column, arrow[type]) for column, (_, type) in zip(columns, _COLUMNS, strict=True)],
        names=[name for name, _ in _COLUMNS],
    )
    connection.register("followed", batch)
    try:
        connection.execute(
            f"INSERT INTO {table} SELECT * REPLACE (make_timestamptz(timestamp) AS timestamp) FROM followed"
        )
    finally:
        connection.unregister("followed")


def stored_drafts(drafts: list[Draft]) -> list[Stored]:
    """The drafts of an open transaction as records at the very end of the log."""
    return [
        Stored(
            PENDING + n,
            draft.kind,
            draft.name,
            draft.time,
            draft.data,
            draft.user,
            draft.id,
            draft.entity,
            None,
            draft.value,
            draft.experiments,
        )
        for n, draft in enumerate(drafts)
    ]
