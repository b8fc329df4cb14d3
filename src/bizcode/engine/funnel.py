"""Funnels in SQL: one row per user with the counted attempt, its level and the times of its steps.

Ordered: see `ordered`.
Strict: the events that follow in a window over all of the user's events.
Unordered: counts within a range window that starts at each event.
"""

from __future__ import annotations

from itertools import combinations

from ..errors import InvalidQuery
from ..plan.funnel import FunnelPlan
from ..plan.sql import Parameters
from .engine import Session
from .funnel_rows import UNLIMITED, Rows, group
from .ordered import chained, each_attempt
from .relation import Relation
from .stepwise import stepwise

__all__ = ["Rows", "attempts", "reversed_steps"]

MOST_UNORDERED = 10


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
    if not session.asof:
        return _best(rows, stepwise(rows)), rows.relation
    if any(step.optional for step in plan.steps) or _begins_rarely(rows, parameters):
        return _best(rows, each_attempt(rows)), rows.relation
    return chained(rows), rows.relation


def _begins_rarely(rows: Rows, parameters: Parameters) -> bool:
    """Whether there are fewer attempts to follow from step 1 than ways on from step 2."""
    if len(rows.plan.steps) == 1:
        return False
    first, second = rows.counts(parameters)
    return first < second


def _strict(rows: Rows) -> str:
    plan = rows.plan
    window = UNLIMITED if plan.window is None else plan.window
    # Of all the user's events, whatever they hold: none may stand between two steps.
    over = "OVER (PARTITION BY u ORDER BY k)"
    held = "".join(f" AND {name} IS NOT NULL" for name in rows.hold)
    shown = ["u", "k AS k1", "t AS t1", f"({rows.started('t')}{held}) AS r1"]
    shown += [f"{p} AS {p}_1" for p in rows.properties]
    for n in range(2, len(plan.steps) + 1):
        shown.append(f"lead(t, {n - 1}) {over} AS t{n}")
        match = [f"lead({name}, {n - 1}) {over}" for name in (f"f{n}", *rows.hold)]
        same = "".join(f" AND {name} = {other}" for name, other in zip(rows.hold, match[1:], strict=True))
        shown.append(f"coalesce({match[0]}{same}, FALSE) AS m{n}")
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
    does = {n: f"f{n}" for n in range(2, count + 1)} | {1: f"({rows.started('t')})"}
    shown = ["u", "k AS k0", f"min(CASE WHEN {does[1]} THEN k END) {over} AS k1"]
    for n in range(1, count + 1):
        shown.append(f"min(CASE WHEN {does[n]} THEN t END) {over} AS t{n}")
        shown += [f"arg_min_null({p}, k) FILTER (WHERE {does[n]}) {over} AS {p}_{n}" for p in rows.properties]
    subsets = [(n,) for n in range(1, count + 1)]
    if overlaps > 1:
        subsets = [s for size in range(1, count + 1) for s in combinations(range(1, count + 1), size)]
    # Hall's theorem: each step can have an event of its own if every set of steps has enough events.
    for s in subsets:
        any_ = " OR ".join(does[n] for n in s)
        shown.append(f"count(*) FILTER (WHERE {any_}) {over} AS n_{'_'.join(map(str, s))}")
    inner = f"SELECT {', '.join(shown)} FROM ({rows.sql()})"
    reached = ["(k1 IS NOT NULL) AS r1"]
    for n in range(2, count + 1):
        tests = [f"n_{'_'.join(map(str, s))} >= {len(s)}" for s in subsets if max(s) <= n]
        reached.append(f"(k1 IS NOT NULL AND {' AND '.join(tests)}) AS r{n}")
    keep = ["u", "k0", "k1", *(f"t{n}" for n in range(1, count + 1)), *reached]
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
        groups.append(f"{group(rows, n, dimension)} AS g{n}")
    kept = [*(f"t{n}" for n in range(1, count + 1)), *(f"r{n}" for n in range(1, count + 1))]
    # Unordered attempts that begin at different events may share their first step 1.
    starts = ["k1", "k0"] if plan.order == "unordered" else ["k1"]
    ranked = ", ".join(["u", f"{required} AS required", f"{level} AS level", *starts, *kept, *groups])
    fields = [*kept, "level", *(f"g{n}" for n in range(len(plan.by)))]
    packed = ", ".join(f"{name} := {name}" for name in fields)
    # Larger is better: more steps first, then the earlier start.
    earlier = ", ".join(f"{name}_ := -{name}" for name in starts)
    best = f"max_by(struct_pack({packed}), struct_pack(a := required, b := level, {earlier}))"
    return f"SELECT u, unnest(best) FROM (SELECT u, {best} AS best FROM (SELECT {ranked} FROM ({sql})) GROUP BY u)"


def reversed_steps(session: Session, plan: FunnelPlan) -> list[tuple[int, int, int]]:
    """For each pair of neighbouring steps: (its first step, users who did both, of them those the other way round),
    by the first time that each did either. The rows were materialized before."""
    parts = []
    for n in range(1, len(plan.steps)):
        one, next_ = f"first_{n}", f"first_{n + 1}"
        parts.append(f"count(*) FILTER (WHERE {one} <> {next_})")
        parts.append(f"count(*) FILTER (WHERE {next_} < {one})")
    if not parts:
        return []
    row = session.fetch(f"SELECT {', '.join(parts)} FROM funnel_users")[0]
    return [(n + 1, row[2 * n], row[2 * n + 1]) for n in range(len(plan.steps) - 1)]
