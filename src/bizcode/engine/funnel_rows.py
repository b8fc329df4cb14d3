"""The events that a funnel looks at, each with its place in time as one integer.

Time and position are packed into one key, where they fit in 62 bits: one time may have several events, and
what compares one integer sorts and joins fastest. A user is looked up by the hash of the name, unless two names
in the data share one.
"""

from __future__ import annotations

from ..plan.funnel import FunnelPlan
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters
from ..record import EVENT
from . import buckets
from .engine import Session
from .relation import Column, Relation

__all__ = ["UNLIMITED", "Rows", "extents", "group", "needs"]

UNLIMITED = 2**61
HASH = "hash(u)"


class Rows:
    """The rows that match any step: `u` the user, `h` its hash, `k` the place in time, flags `f1`.. of the steps and
    `x1`.. of the exclusions, `h1`.. what is held, `p0`.. what is split by."""

    def __init__(self, session: Session, plan: FunnelPlan, parameters: Parameters) -> None:
        columns: dict[str, Column] = {
            "u": Column("user"),
            "position": Column("position"),
            "moment": Column("timestamp"),
        }
        for n, step in enumerate(plan.steps, 1):
            columns[f"f{n}"] = Column("flag", condition=step.condition)
        for n, exclusion in enumerate(plan.exclusions, 1):
            columns[f"x{n}"] = Column("flag", condition=exclusion.step.condition)
        for n, field in enumerate(plan.hold, 1):
            columns[f"h{n}"] = Column("key", field)
        for n, dimension in enumerate(plan.by):
            column = _property(dimension)
            if column is not None:
                columns[f"p{n}"] = column
        self.plan = plan
        self.session = session
        select = Select(kind=EVENT, names=plan.names, where=plan.where)
        self.relation: Relation = session.relation(select, columns, parameters)
        self.properties = [f"p{n}" for n, d in enumerate(plan.by) if d.kind != "bucket"]
        self.hold = [f"h{n}" for n in range(1, len(plan.hold) + 1)]
        bounds = Select(kind=EVENT, since=plan.since, until=plan.until)
        self.low, self.high = session.range(bounds).bounds
        self.user = "h"
        self._start, self._first, self._bits, self._scale, self._type = self._packing(parameters)
        self._kept = False

    def materialize(self, parameters: Parameters) -> None:
        """Read the rows once, for the several statements that a funnel asks of them."""
        self.session.keep("funnel_rows", self._read(), parameters)
        parameters.values.clear()
        self.session.keep("funnel_users", self._users())
        self._kept = True
        if not self.session.asof:  # what walks by windows needs no hash
            return
        if self.session.fetch("SELECT count(*) <> count(DISTINCT h) FROM funnel_users")[0][0]:
            self.user = "u"

    def tables(self) -> list[str]:
        """The common table expressions `funnel_rows` and `funnel_users`, as far as they aren't tables already."""
        if self._kept:
            return []
        return [
            f"funnel_rows AS MATERIALIZED ({self._read()})",
            f"funnel_users AS MATERIALIZED ({self._users()})",
        ]

    def sql(self) -> str:
        """The rows with `k`, the place in time, and `t`, microseconds."""
        source = "funnel_rows" if self._kept else f"({self._read()})"
        return f"SELECT *, {self.time('k')} AS t FROM {source}"

    def _read(self) -> str:
        shown = ["u", f"{HASH} AS h", f"{self.place('epoch_us(moment)')} + (position - {self._first}) AS k"]
        flags = [f"f{n}" for n in range(1, len(self.plan.steps) + 1)]
        flags += [f"x{n}" for n in range(1, len(self.plan.exclusions) + 1)]
        shown += [*flags, *self.hold, *self.properties]
        where = ["u IS NOT NULL", *(f"{name} IS NOT NULL" for name in self.hold)]
        if self.plan.order != "strict":
            where.append(f"({' OR '.join(flags)})")
        return f"SELECT {', '.join(shown)} FROM ({self.relation.sql}) WHERE {' AND '.join(where)}"

    def _users(self) -> str:
        """One row per user: the first start `k1` with its properties, and the first time of each step."""
        start = self.started(self.time("k"))
        shown = ["u", f"{HASH} AS h", f"min(k) FILTER (WHERE {start}) AS k1"]
        if self.properties:
            packed = ", ".join(f"{name} := {name}" for name in self.properties)
            shown.append(f"arg_min(struct_pack({packed}), k) FILTER (WHERE {start}) AS properties")
        since = "" if self.low is None else f" AND {self.time('k')} >= {self.low}"
        steps = range(1, len(self.plan.steps) + 1)
        shown += [f"min(k) FILTER (WHERE f{n}{since}) AS first_{n}" for n in steps]
        return f"SELECT {', '.join(shown)} FROM funnel_rows GROUP BY u"

    def _packing(self, parameters: Parameters) -> tuple[int, int, int, int, str]:
        """(first time, first position, bits of a position, microseconds of a unit of time, type of the key), the
        key as narrow as the data allows."""
        low, high, first, last = extents(self.session, self.plan)
        bits = max(1, (last - first).bit_length())
        if (high - low).bit_length() + bits <= 62:
            return low, first, bits, 1, "BIGINT"
        if (high - low).bit_length() - 9 + bits <= 62 and self._milliseconds(low, parameters):
            return low, first, bits, 1000, "BIGINT"
        return low, first, bits, 1, "HUGEINT"

    def _milliseconds(self, low: int, parameters: Parameters) -> bool:
        """Whether all times are whole milliseconds, as browsers give them."""
        sql = f"SELECT coalesce(bool_and(epoch_us(moment) % 1000 = 0), TRUE) FROM ({self.relation.sql})"
        return low % 1000 == 0 and bool(self.session.fetch(sql, parameters)[0][0])

    def place(self, time: str) -> str:
        """SQL: the least key of a time, of one before all others the first."""
        since = f"greatest({time} - {self._start}, 0)"
        units = since if self._scale == 1 else f"(({since} + {self._scale - 1}) // {self._scale})"
        return f"({units}::{self._type} << {self._bits})"

    def time(self, key: str) -> str:
        """SQL: the microseconds of a key."""
        units = f"({key} >> {self._bits})::BIGINT"
        return f"({self._start} + {units if self._scale == 1 else f'{units} * {self._scale}'})"

    def started(self, time: str) -> str:
        """SQL: a step-1 event within the range asked for."""
        parts = ["f1"]
        if self.low is not None:
            parts.append(f"{time} >= {self.low}")
        if self.high is not None:
            parts.append(f"{time} < {self.high}")
        return " AND ".join(parts)


def extents(session: Session, plan: FunnelPlan) -> tuple[int, int, int, int]:
    """Lowest and highest time and position of the events that a plan reads, from statistics alone."""
    segments = session.view.catalog.select(EVENT, plan.names, None, None)
    lows, highs = [s.min_time for s in segments], [s.max_time for s in segments]
    first = [s.first_position for s in segments]
    last = [s.last_position for s in segments]
    for (kind, name), (_, low, high) in session.view.names.items():
        if kind == EVENT and (plan.names is None or name in plan.names):
            lows.append(low)
            highs.append(high)
            first.append(session.view.sealed_to + 1)
            last.append(session.view.head)
    for row in session.pending:
        lows.append(row.time)
        highs.append(row.time)
        first.append(row.position)
        last.append(row.position)
    return min(lows, default=0), max(highs, default=0), min(first, default=0), max(last, default=0)


def _property(dimension: Dimension) -> Column | None:
    if dimension.kind == "bucket":
        return None
    if dimension.kind == "user":
        return Column("user")
    if dimension.kind == "event":
        return Column("name")
    if dimension.kind == "experiment":
        return Column("experiment", name=dimension.name)
    return Column("key", dimension.field)


def needs(plan: FunnelPlan) -> set[int]:
    """The steps whose properties are wanted."""
    if plan.attribution == "last":
        return set(range(1, len(plan.steps) + 1))
    return {1, plan.attribution} if isinstance(plan.attribution, int) else {1}


def group(rows: Rows, n: int, dimension: Dimension) -> str:
    plan = rows.plan
    if dimension.kind == "bucket":
        low, high, _, _ = extents(rows.session, plan)
        moment = "make_timestamptz(t1)"
        return buckets.expression(moment, dimension.name, rows.session.tz, low, high + 1)
    if plan.attribution == "first":
        return f"p{n}_1"
    if isinstance(plan.attribution, int):
        return f"CASE WHEN r{plan.attribution} THEN p{n}_{plan.attribution} END"
    whens = " ".join(f"WHEN r{m} THEN p{n}_{m}" for m in range(len(plan.steps), 0, -1))
    return f"CASE {whens} END"
