"""Funnels in SQL: one row per user with the counted attempt, its level and the times of its steps.

Ordered: a chain of ASOF joins. From every step-1 event the earliest later step-2 event, from there the
earliest later step-3 event, and so on: the definition itself, so the attempt that counts is known with
all its times. ASOF compares one key; time and position are packed into one integer, where they fit
in 63 bits, since one time may have several events.
Strict: the events that follow in a window over all of the user's events.
Unordered: counts within a range window that starts at each event.
"""

from __future__ import annotations

from itertools import combinations

from ..errors import InvalidQuery
from ..plan.funnel import FunnelPlan
from ..plan.select import Dimension, Select
from ..plan.sql import Parameters
from ..record import EVENT
from . import buckets
from .engine import Session
from .relation import Column, Relation

__all__ = ["Rows", "attempts", "reversed_steps"]

UNLIMITED = 2**61
MOST_UNORDERED = 10


class Rows:
    """The rows that match any step, and how their order is packed into a key."""

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
        bounds = Select(kind=EVENT, since=plan.since, until=plan.until)
        self.low, self.high = session.range(bounds).bounds
        self.key = self._key(parameters)
        self._table: str | None = None

    def materialize(self, parameters: Parameters) -> None:
        """Read the rows once, for the several statements that a funnel asks of them."""
        self.session.cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE funnel_rows AS {self.sql()}", parameters.values
        )
        parameters.values.clear()
        self._table = "funnel_rows"

    def _key(self, parameters: Parameters) -> str:
        """SQL of the key: time and position in one integer, as narrow as the data allows."""
        low, high, first, last = extents(self.session, self.plan)
        positions = max(1, (last - first).bit_length())
        moment = f"(epoch_us(moment) - {low})"
        if (high - low).bit_length() + positions <= 62:
            return f"({moment} << {positions}) + (position - {first})"
        if (high - low).bit_length() - 9 + positions <= 62 and self._milliseconds(parameters):
            return f"(({moment} // 1000) << {positions}) + (position - {first})"
        return f"({moment}::HUGEINT << {positions}) + (position - {first})"

    def _milliseconds(self, parameters: Parameters) -> bool:
        """Whether all times are whole milliseconds, as browsers give them."""
        sql = f"SELECT coalesce(bool_and(epoch_us(moment) % 1000 = 0), TRUE) FROM ({self.relation.sql})"
        low, *_ = extents(self.session, self.plan)
        return low % 1000 == 0 and bool(self.session.fetch(sql, parameters)[0][0])

    def sql(self) -> str:
        """The rows with `k`, the place in time, and `t`, microseconds."""
        if self._table is not None:
            return f"SELECT * FROM {self._table}"
        shown = ["u", "epoch_us(moment) AS t", f"{self.key} AS k"]
        shown += [f"f{n}" for n in range(1, len(self.plan.steps) + 1)]
        shown += [f"x{n}" for n in range(1, len(self.plan.exclusions) + 1)]
        shown += [f"h{n}" for n in range(1, len(self.plan.hold) + 1)]
        shown += self.properties
        where = ["u IS NOT NULL"]
        if self.plan.order != "strict":
            flags = [f"f{n}" for n in range(1, len(self.plan.steps) + 1)]
            flags += [f"x{n}" for n in range(1, len(self.plan.exclusions) + 1)]
            where.append(f"({' OR '.join(flags)})")
        where += [f"h{n} IS NOT NULL" for n in range(1, len(self.plan.hold) + 1)]
        return f"SELECT {', '.join(shown)} FROM ({self.relation.sql}) WHERE {' AND '.join(where)}"

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


def attempts(
    session: Session, plan: FunnelPlan, parameters: Parameters, rows: Rows | None = None
) -> tuple[str, Relation]:
    """SQL of one row per user who reached step 1: `u, level, t1..tn, r1..rn, g0..` (times of the steps taken,
    whether each was reached, and the values to split by)."""
    rows = rows or Rows(session, plan, parameters)
    if plan.order == "strict":
        return _best(rows, _strict(rows)), rows.relation
    if plan.order == "unordered":
        return _best(rows, _unordered(session, rows, parameters)), rows.relation
    if any(step.optional for step in plan.steps):
        return _best(rows, _ordered(rows)), rows.relation
    return _climbed(rows), rows.relation


def _ordered(rows: Rows) -> str:
    """One row per step-1 event: `u, k1, t1..tn, r1..rn, p.._1..n`."""
    plan = rows.plan
    hold = [f"h{n}" for n in range(1, len(plan.hold) + 1)]
    window = UNLIMITED if plan.window is None else plan.window
    count = len(plan.steps)
    ctes = [f"rows AS MATERIALIZED ({rows.sql()})"]
    carried = ", ".join(
        ["u", *hold, "k AS k1", "t AS t1", "TRUE AS r1", *(f"{p} AS {p}_1" for p in rows.properties)]
    )
    ctes.append(f"c1 AS (SELECT {carried} FROM rows WHERE {rows.started('t')})")
    needs = _needs(plan)
    last = "k1"
    previous = "c1"
    reached = "r1"
    for n in range(2, count + 1):
        same = " AND ".join(f"a.{name} = b.{name}" for name in ("u", *hold))
        shown = ", ".join(["u", *hold, "k", "t", *(p for p in rows.properties if n in needs)])
        ends = [
            f"e{x}.k AS e{x}_{n}"
            for x, exclusion in enumerate(plan.exclusions, 1)
            if exclusion.after == n - 1
        ]
        valid = [f"b.k IS NOT NULL AND b.t - a.t1 <= {window}", f"a.{reached}"]
        joins = [f"ASOF LEFT JOIN (SELECT {shown} FROM rows WHERE f{n}) b ON {same} AND a.{last} < b.k"]
        for x, exclusion in enumerate(plan.exclusions, 1):
            held = " AND ".join(f"a.{name} = e{x}.{name}" for name in ("u", *hold))
            if exclusion.after == n - 1:
                columns = ", ".join(["u", *hold, "k"])
                joins.append(
                    f"ASOF LEFT JOIN (SELECT {columns} FROM rows WHERE x{x}) e{x} ON {held} AND a.k{n - 1} < e{x}.k"
                )
                valid.append(f"(e{x}.k IS NULL OR b.k < e{x}.k)")
            elif exclusion.after < n - 1 and n <= exclusion.before:
                valid.append(f"(a.e{x}_{exclusion.after + 1} IS NULL OR b.k < a.e{x}_{exclusion.after + 1})")
        values = [f"b.{p} AS {p}_{n}" for p in rows.properties if n in needs]
        test = " AND ".join(valid)
        optional = plan.steps[n - 1].optional
        taken = f"coalesce({test}, FALSE)"
        if optional:
            # Taken only if it comes before the next step that must happen.
            following = next((m for m in range(n + 1, count + 1) if not plan.steps[m - 1].optional), None)
            if following is not None:
                joins.append(
                    f"ASOF LEFT JOIN (SELECT {', '.join(['u', *hold, 'k'])} FROM rows WHERE f{following}) q "
                    f"ON {' AND '.join(f'a.{name} = q.{name}' for name in ('u', *hold))} AND a.{last} < q.k"
                )
                taken = f"coalesce({test} AND (q.k IS NULL OR b.k < q.k), FALSE)"
        body = ", ".join(
            [
                "a.*",
                f"CASE WHEN {taken} THEN b.k END AS k{n}",
                f"CASE WHEN {taken} THEN b.t END AS t{n}",
                f"{taken} AS r{n}",
                *ends,
                *values,
            ]
        )
        sql = f"SELECT {body} FROM {previous} a {' '.join(joins)}"
        if optional:
            # The next step follows this one if it was taken, else the one before.
            sql = f"SELECT *, coalesce(k{n}, {last}) AS l{n} FROM ({sql})"
            last = f"l{n}"
        else:
            last = f"k{n}"
            reached = f"r{n}"
        ctes.append(f"c{n} AS ({sql})")
        previous = f"c{n}"
    return f"WITH {', '.join(ctes)} SELECT * FROM {previous}"


def _climbed(rows: Rows) -> str:
    """The same where every step must happen: only the attempts that reached a step go on to the next, so that
    the joins shrink. One row per user, with the counted attempt."""
    plan = rows.plan
    hold = [f"h{n}" for n in range(1, len(plan.hold) + 1)]
    window = UNLIMITED if plan.window is None else plan.window
    count = len(plan.steps)
    needs = _needs(plan)
    same = " AND ".join(f"a.{name} = b.{name}" for name in ("u", *hold))
    start = ", ".join(["u", *hold, "k AS k1", "t AS t1", *(f"{p} AS {p}_1" for p in rows.properties)])
    ctes = [
        f"rows AS MATERIALIZED ({rows.sql()})",
        f"c1 AS (SELECT {start} FROM rows WHERE {rows.started('t')})",
    ]
    for n in range(2, count + 1):
        shown = ", ".join(["u", *hold, "k", "t", *(p for p in rows.properties if n in needs)])
        joins = [f"ASOF JOIN (SELECT {shown} FROM rows WHERE f{n}) b ON {same} AND a.k{n - 1} < b.k"]
        valid = [f"b.t - a.t1 <= {window}"]
        ends = []
        for x, exclusion in enumerate(plan.exclusions, 1):
            if exclusion.after == n - 1:
                held = " AND ".join(f"a.{name} = e{x}.{name}" for name in ("u", *hold))
                columns = ", ".join(["u", *hold, "k"])
                joins.append(
                    f"ASOF LEFT JOIN (SELECT {columns} FROM rows WHERE x{x}) e{x} ON {held} AND a.k{n - 1} < e{x}.k"
                )
                valid.append(f"(e{x}.k IS NULL OR b.k < e{x}.k)")
                ends.append(f"e{x}.k AS e{x}_{n}")
            elif exclusion.after < n - 1 and n <= exclusion.before:
                valid.append(f"(a.e{x}_{exclusion.after + 1} IS NULL OR b.k < a.e{x}_{exclusion.after + 1})")
        values = [f"b.{p} AS {p}_{n}" for p in rows.properties if n in needs]
        body = ", ".join(["a.*", f"b.k AS k{n}", f"b.t AS t{n}", *ends, *values])
        # Who never does the step need not be looked up in it.
        before = f"(SELECT * FROM c{n - 1} WHERE u IN (SELECT u FROM rows WHERE f{n}))"
        ctes.append(
            f"c{n} AS MATERIALIZED (SELECT {body} FROM {before} a {' '.join(joins)} WHERE {' AND '.join(valid)})"
        )
    levels = []
    for n in range(1, count + 1):
        times = [f"t{m}" if m <= n else f"CAST(NULL AS BIGINT) AS t{m}" for m in range(1, count + 1)]
        reached = [f"{'TRUE' if m <= n else 'FALSE'} AS r{m}" for m in range(1, count + 1)]
        values = [
            f"{p}_{m}" if m <= n else f"NULL AS {p}_{m}" for p in rows.properties for m in sorted(needs)
        ]
        inner = ", ".join([*times, *reached, *values])
        names = [f"t{m}" for m in range(1, count + 1)] + [f"r{m}" for m in range(1, count + 1)]
        names += [f"{p}_{m}" for p in rows.properties for m in sorted(needs)]
        packed = ", ".join(f"{name} := {name}" for name in names)
        # Of the attempts that got as far, the earliest.
        levels.append(
            f"SELECT u, {n} AS level, arg_min(struct_pack({packed}), k1) AS s "
            f"FROM (SELECT u, k1, {inner} FROM c{n}) GROUP BY u"
        )
    ctes.append(f"levels AS ({' UNION ALL '.join(levels)})")
    best = "SELECT u, max(level) AS level, arg_max(s, level) AS s FROM levels GROUP BY u"
    groups = [f", {_group(rows, n, dimension)} AS g{n}" for n, dimension in enumerate(plan.by)]
    return f"WITH {', '.join(ctes)} SELECT *{''.join(groups)} FROM (SELECT u, level, unnest(s) FROM ({best}))"


def _needs(plan: FunnelPlan) -> set[int]:
    """The steps whose properties are wanted."""
    if plan.attribution == "last":
        return set(range(1, len(plan.steps) + 1))
    return {1, plan.attribution} if isinstance(plan.attribution, int) else {1}


def _strict(rows: Rows) -> str:
    plan = rows.plan
    partition = "u" if not plan.hold else ", ".join(["u", *(f"h{n}" for n in range(1, len(plan.hold) + 1))])
    window = UNLIMITED if plan.window is None else plan.window
    over = f"OVER (PARTITION BY {partition} ORDER BY k)"
    shown = ["u", "k AS k1", "t AS t1", f"({rows.started('t')}) AS r1"]
    shown += [f"{p} AS {p}_1" for p in rows.properties]
    for n in range(2, len(plan.steps) + 1):
        shown.append(f"lead(t, {n - 1}) {over} AS t{n}")
        shown.append(f"coalesce(lead(f{n}, {n - 1}) {over}, FALSE) AS m{n}")
        shown += [f"lead({p}, {n - 1}) {over} AS {p}_{n}" for p in rows.properties]
    inner = f"SELECT {', '.join(shown)} FROM ({rows.sql()})"
    flags = []
    for n in range(2, len(plan.steps) + 1):
        test = " AND ".join([f"m{m} AND t{m} - t1 <= {window}" for m in range(2, n + 1)])
        flags.append(f"({test}) AS r{n}")
    times = [f"CASE WHEN m{n} THEN t{n} END AS t{n}" for n in range(2, len(plan.steps) + 1)]
    keep = ["u", "k1", "t1", "r1", *times, *flags]
    keep += [f"{p}_{n}" for p in rows.properties for n in range(1, len(plan.steps) + 1)]
    return f"SELECT {', '.join(keep)} FROM ({inner}) WHERE r1"


def _unordered(session: Session, rows: Rows, parameters: Parameters) -> str:
    plan = rows.plan
    count = len(plan.steps)
    hold = [f"h{n}" for n in range(1, len(plan.hold) + 1)]
    frame = (
        "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"
        if plan.window is None
        else f"RANGE BETWEEN CURRENT ROW AND {plan.window} FOLLOWING"
    )
    order = "k" if plan.window is None else "t"
    over = f"OVER (PARTITION BY {', '.join(['u', *hold])} ORDER BY {order} {frame})"
    flags = " + ".join(f"f{n}::INT" for n in range(1, count + 1))
    overlaps = session.fetch(f"SELECT coalesce(max({flags}), 0) FROM ({rows.sql()})", parameters)[0][0]
    if overlaps > 1 and count > MOST_UNORDERED:
        raise InvalidQuery(
            f"an unordered funnel whose steps share events takes at most {MOST_UNORDERED} steps, not {count}"
        )
    shown = ["u", f"min(CASE WHEN {rows.started('t')} THEN k END) {over} AS k1"]
    for n in range(1, count + 1):
        start = rows.started("t") if n == 1 else f"f{n}"
        shown.append(f"min(CASE WHEN {start} THEN t END) {over} AS t{n}")
        shown += [f"arg_min({p}, k) FILTER (WHERE {start}) {over} AS {p}_{n}" for p in rows.properties]
    subsets = [(n,) for n in range(1, count + 1)]
    if overlaps > 1:
        subsets = [s for size in range(1, count + 1) for s in combinations(range(1, count + 1), size)]
    # Hall's theorem: each step can have an event of its own if every set of steps has enough events.
    for s in subsets:
        any_ = " OR ".join(f"f{n}" for n in s)
        shown.append(f"count(*) FILTER (WHERE {any_}) {over} AS n_{'_'.join(map(str, s))}")
    inner = f"SELECT {', '.join(shown)} FROM ({rows.sql()})"
    reached = ["(k1 IS NOT NULL) AS r1"]
    for n in range(2, count + 1):
        tests = [f"n_{'_'.join(map(str, s))} >= {len(s)}" for s in subsets if max(s) <= n]
        reached.append(f"(k1 IS NOT NULL AND {' AND '.join(tests)}) AS r{n}")
    keep = ["u", "k1", *(f"t{n}" for n in range(1, count + 1)), *reached]
    keep += [f"{p}_{n}" for p in rows.properties for n in range(1, count + 1)]
    return f"SELECT {', '.join(keep)} FROM ({inner}) WHERE k1 IS NOT NULL"


def _best(rows: Rows, sql: str) -> str:
    """Of each user the attempt that got furthest, the earliest of equals."""
    plan = rows.plan
    count = len(plan.steps)
    level = " + ".join(f"r{n}::INT" for n in range(1, count + 1))
    required = " + ".join(f"r{n}::INT" for n in range(1, count + 1) if not plan.steps[n - 1].optional)
    groups = []
    for n, dimension in enumerate(plan.by):
        groups.append(f"{_group(rows, n, dimension)} AS g{n}")
    kept = [*(f"t{n}" for n in range(1, count + 1)), *(f"r{n}" for n in range(1, count + 1))]
    ranked = ", ".join(["u", f"{required} AS required", f"{level} AS level", "k1", *kept, *groups])
    fields = [*kept, "level", *(f"g{n}" for n in range(len(plan.by)))]
    packed = ", ".join(f"{name} := {name}" for name in fields)
    # Larger is better: more steps first, then the earlier start.
    best = f"max_by(struct_pack({packed}), struct_pack(a := required, b := level, c := -k1))"
    return f"SELECT u, unnest(best) FROM (SELECT u, {best} AS best FROM (SELECT {ranked} FROM ({sql})) GROUP BY u)"


def _group(rows: Rows, n: int, dimension: Dimension) -> str:
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


def reversed_steps(session: Session, plan: FunnelPlan, rows: Rows) -> list[tuple[int, int, int]]:
    """For each pair of neighbouring steps: (its first step, users who did both, of them those the other way round),
    by the first time that each did either."""
    count = len(plan.steps)
    where = f" WHERE t >= {rows.low}" if rows.low is not None else ""
    firsts = ", ".join(f"min(k) FILTER (WHERE f{n}) AS k{n}" for n in range(1, count + 1))
    parts = []
    for n in range(1, count):
        parts.append(
            f"count(*) FILTER (WHERE k{n} IS NOT NULL AND k{n + 1} IS NOT NULL AND k{n} <> k{n + 1})"
        )
        parts.append(f"count(*) FILTER (WHERE k{n + 1} < k{n})")
    if not parts:
        return []
    sql = f"SELECT {', '.join(parts)} FROM (SELECT u, {firsts} FROM ({rows.sql()}){where} GROUP BY u)"
    row = session.fetch(sql)[0]
    return [(n + 1, row[2 * n], row[2 * n + 1]) for n in range(count - 1)]
