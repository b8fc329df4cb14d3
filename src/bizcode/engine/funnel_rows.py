"""The events that a funnel looks at, each with its place in time as one integer.

Time and position are packed into one key, where they fit in 62 bits: one time may have several events, and
what compares one integer sorts and joins fastest. A user is looked up by the hash of the name, unless two names
in the data share one; where it is known beforehand that none do, and names aren't asked for, the hash alone is read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..plan.funnel import FunnelPlan
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters, instant
from ..record import EVENT
from . import buckets, facts
from .engine import Session
from .relation import Column, Relation, key_column

__all__ = ["UNLIMITED", "Rows", "extents", "group", "needs"]

UNLIMITED = 2**61


class Rows:
    """The rows that match any step: `u` the user, `h` its hash, `k` the place in time, flags `f1`.. of the steps and
    `x1`.. of the exclusions, `h1`.. what is held, `p0`.. what is split by.

    Where attempts are joined together (`apart`) those of step 1 are `starts`, all others `later`: step 1 is most of
    what a funnel reads, and of its rows little is needed.
    """

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
            if dimension.kind != "bucket":
                columns[f"p{n}"] = key_column(dimension)
        self.plan = plan
        self.session = session
        select = Select(kind=EVENT, names=plan.names, where=plan.where)
        self.relation: Relation = session.relation(select, columns, parameters)
        self.properties = [f"p{n}" for n, d in enumerate(plan.by) if d.kind != "bucket"]
        self.hold = [f"h{n}" for n in range(1, len(plan.hold) + 1)]
        self._flags = [f"f{n}" for n in range(1, len(plan.steps) + 1)]
        self._excluded = [f"x{n}" for n in range(1, len(plan.exclusions) + 1)]
        bounds = Select(kind=EVENT, since=plan.since, until=plan.until)
        self.low, self.high = session.range(bounds).bounds
        self.user = "h"
        self.hashed = False
        self.apart = plan.order == "ordered" and session.asof
        others = [step.event for step in plan.steps[1:]] + [x.step.event for x in plan.exclusions]
        self._shared = (
            not self.apart or plan.steps[0].event in others or "*" in (plan.steps[0].event, *others)
        )
        self._start, self._first, self._bits, self._scale, self._type = self._packing()
        self._kept = False

    def materialize(self, parameters: Parameters, *, named: bool = True) -> None:
        """Read the rows once, for the several statements that a funnel asks of them.

        Args:
            named: whether users are asked for by their names; else `u` may be anything that tells them apart.
        """
        if self.session.asof and not named:
            self.hashed = self.session.engine.facts.hash_tells_users_apart(self.session, self.plan.names)
        if self.hashed:
            self.user = "u"
        for table, sql, reads in self._made():
            self.session.keep(table, sql, parameters if reads else None)
        parameters.values.clear()
        self._kept = True
        if (
            self.user == "h"
            and self.apart
            and self.session.fetch("SELECT count(*) <> count(DISTINCT h) FROM funnel_users")[0][0]
        ):
            self.user = "u"

    def tables(self) -> list[str]:
        """The common table expressions that stand for what isn't tables already."""
        return [] if self._kept else [f"{table} AS MATERIALIZED ({sql})" for table, sql, _ in self._made()]

    def sql(self) -> str:
        """The rows with `k`, the place in time, and `t`, microseconds."""
        source = "funnel_rows" if self._kept else f"({self._read()})"
        return f"SELECT *, {self.time('k')} AS t FROM {source}"

    @property
    def starts(self) -> str:
        """What to select the events of step 1 from, those from the range's start on."""
        if not self._shared:
            return "funnel_starts"
        return f"(SELECT * FROM funnel_rows WHERE f1{self._since()})"

    @property
    def begun(self) -> str:
        """What to select the events of step 1 within the range from."""
        if self.high is None:
            return self.starts
        return f"(SELECT * FROM {self.starts} WHERE {self.time('k')} < {self.high})"

    @property
    def later(self) -> str:
        """What to select the events of all other steps and of the exclusions from."""
        return "funnel_rows" if self._shared else "funnel_later"

    def counts(self, parameters: Parameters) -> tuple[int, int]:
        """How many events of step 1 there are, and how many of step 2."""
        ctes = "" if self._kept else f"WITH {', '.join(self.tables())} "
        second = f"SELECT count(*) FILTER (WHERE f2) FROM {self.later}"
        return self.session.fetch(
            f"{ctes}SELECT (SELECT count(*) FROM {self.starts}), ({second})", parameters
        )[0]

    def _made(self) -> Iterator[tuple[str, str, bool]]:
        """The tables that a funnel needs: name, SQL, whether it reads the records."""
        if self._shared:
            yield "funnel_rows", self._read(), True
        else:
            since = "" if self.low is None else f" AND moment >= {instant(self.low)}"
            yield "funnel_starts", f"{self._rows([])} AND f1{since}", True
            if len(self._flags) > 1:
                flags = [*self._flags[1:], *self._excluded]
                yield "funnel_later", f"{self._rows(flags)} AND ({' OR '.join(flags)})", True
        if self.plan.order == "ordered":
            yield "funnel_users", self._users(), False

    def _read(self) -> str:
        flags = [*self._flags, *self._excluded]
        sql = self._rows(flags)
        return sql if self.plan.order == "strict" else f"{sql} AND ({' OR '.join(flags)})"

    def _rows(self, flags: list[str]) -> str:
        place = f"{self._place('epoch_us(moment)')} + (position - {self._first})"
        users = [f"{facts.HASH} AS u"] if self.hashed else ["u", f"{facts.HASH} AS h"]
        shown = [*users, f"{place} AS k", *flags, *self.hold, *self.properties]
        held = [] if self.plan.order == "strict" else self.hold
        where = ["u IS NOT NULL", *(f"{name} IS NOT NULL" for name in held)]
        return f"SELECT {', '.join(shown)} FROM ({self.relation.sql}) WHERE {' AND '.join(where)}"

    def _since(self) -> str:
        return "" if self.low is None else f" AND {self.time('k')} >= {self.low}"

    def _users(self) -> str:
        """One row per user: the first start `k1` with its properties, and the first time of each step."""
        since = self._since()
        firsts = [
            f"min(k) FILTER (WHERE {flag}{since}) AS first_{n}" for n, flag in enumerate(self._flags, 1)
        ]
        if not self.apart:
            return f"SELECT u, {', '.join(firsts)} FROM funnel_rows GROUP BY u"
        until = "" if self.high is None else f" FILTER (WHERE {self.time('k')} < {self.high})"
        shown = ["u", f"min(k){until} AS k1", "min(k) AS first_1"]
        if self.properties:
            packed = ", ".join(f"{name} := {name}" for name in self.properties)
            shown.append(f"arg_min(struct_pack({packed}), k){until} AS properties")
        starts = f"SELECT {', '.join(shown)} FROM {self.starts} GROUP BY u"
        kept = "*" if self.hashed else f"*, {facts.HASH} AS h"
        if len(self._flags) == 1:
            return f"SELECT {kept} FROM ({starts})"
        later = f"SELECT u, {', '.join(firsts[1:])} FROM {self.later} GROUP BY u"
        return f"SELECT {kept} FROM ({starts}) FULL JOIN ({later}) USING (u)"

    def _packing(self) -> tuple[int, int, int, int, str]:
        """(first time, first position, bits of a position, microseconds of a unit of time, type of the key), the
        key as narrow as the data allows."""
        low, high, first, last = extents(self.session, self.plan)
        bits = max(1, (last - first).bit_length())
        if (high - low).bit_length() + bits <= 62:
            return low, first, bits, 1, "BIGINT"
        whole = low % 1000 == 0 and (high - low).bit_length() - 9 + bits <= 62
        if whole and self.session.whole_milliseconds(self.plan.names):
            return low, first, bits, 1000, "BIGINT"
        return low, first, bits, 1, "HUGEINT"

    def stretch(self, window: int) -> int:
        """What at least lies between the keys of two events that are further apart than so many microseconds."""
        return (window // self._scale + 2) << self._bits

    def place(self, time: str) -> str:
        """SQL: the least key of a time, of one before all others the first."""
        return self._place(f"greatest({time}, {self._start})")

    def _place(self, time: str) -> str:
        since = f"({time} - {self._start})"
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
