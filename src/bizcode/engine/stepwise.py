"""Ordered funnels by windows alone, for an engine without ASOF joins.

The events of a user are walked once from the last to the first. At each one stands the way on from there: the nearest
later event of the next step, with its own way on in it. An attempt is then read off at its step 1.
"""

from __future__ import annotations

from ..errors import InvalidQuery
from .funnel_rows import UNLIMITED, Rows, needs

__all__ = ["stepwise"]


def stepwise(rows: Rows) -> str:
    """One row per step-1 event: `u, k1, t1..tn, r1..rn, p.._1..n`.

    Raises:
        InvalidQuery: optional steps together with exclusions, or two in a row within a window.
    """
    plan = rows.plan
    count = len(plan.steps)
    if plan.exclusions and any(step.optional for step in plan.steps):
        raise InvalidQuery(
            "a funnel with optional steps and exclusions can't be put to this engine: leave one of them out, or ask "
            "without engine="
        )
    pairs = zip(plan.steps, plan.steps[1:], strict=False)
    if plan.window is not None and any(one.optional and other.optional for one, other in pairs):
        # Whether the first is passed over depends on where the attempt began, and with it what counts as the second.
        raise InvalidQuery(
            "a funnel with two optional steps in a row can't be put to this engine within a window: leave out the "
            "window or one of the steps, or ask without engine="
        )
    key = ", ".join(["u", *rows.hold])
    over = f"OVER (PARTITION BY {key} ORDER BY k DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    sql = f"SELECT * FROM ({rows.sql()})"
    if plan.exclusions:
        nearest = [
            f"last_value(CASE WHEN x{x} THEN k END IGNORE NULLS) {over} AS x{x}_k"
            for x in range(1, len(plan.exclusions) + 1)
        ]
        sql = f"SELECT *, {', '.join(nearest)} FROM ({sql})"
    for n in range(count, 1, -1):
        names = _held(rows, n)
        packed = [f"{name} := {name}" for name in names]
        if n < count:
            packed.append(f"onward := s{n + 1}")
        found = f"last_value(CASE WHEN f{n} THEN struct_pack({', '.join(packed)}) END IGNORE NULLS) {over}"
        if not plan.steps[n - 1].optional:
            sql = f"SELECT *, {found} AS s{n} FROM ({sql})"
            continue
        # Taken only if it comes before the next step that must happen.
        required = next(m for m in range(n + 1, count + 1) if not plan.steps[m - 1].optional)
        taken = f"(b{n}.k IS NOT NULL AND (s{required}.k IS NULL OR b{n}.k < s{required}.k))"
        packed = [f"{name} := CASE WHEN {taken} THEN b{n}.{name} END" for name in names]
        packed.append(f"onward := CASE WHEN {taken} THEN b{n}.onward ELSE s{n + 1} END")
        sql = f"SELECT *, struct_pack({', '.join(packed)}) AS s{n} FROM (SELECT *, {found} AS b{n} FROM ({sql}))"
    return _attempts(rows, sql)


def _held(rows: Rows, n: int) -> list[str]:
    """What is kept of an event that is taken as step n."""
    exclusions = enumerate(rows.plan.exclusions, 1)
    return [
        "k",
        *(rows.properties if n in needs(rows.plan) else []),
        *(f"x{x}_k" for x, exclusion in exclusions if exclusion.after == n),
    ]


def _attempts(rows: Rows, sql: str) -> str:
    plan = rows.plan
    count = len(plan.steps)
    window = UNLIMITED if plan.window is None else plan.window
    shown = ["u", "k AS k1", "t AS t1", *(f"{p} AS {p}_1" for p in rows.properties)]
    shown += [f"x{x}_k AS e{x}" for x, exclusion in enumerate(plan.exclusions, 1) if exclusion.after == 1]
    for n in range(2, count + 1):
        place = ".".join([f"s{2}", *["onward"] * (n - 2)])
        shown.append(f"{place}.k AS k{n}")
        if n in needs(plan):
            shown += [f"{place}.{p} AS {p}_{n}" for p in rows.properties]
        shown += [
            f"{place}.x{x}_k AS e{x}"
            for x, exclusion in enumerate(plan.exclusions, 1)
            if exclusion.after == n
        ]
    attempts = f"SELECT {', '.join(shown)} FROM ({sql}) WHERE {rows.started('t')}"
    kept = ["u", "k1", "t1", "TRUE AS r1", *(f"{p}_1" for p in rows.properties)]
    before: list[str] = []
    for n in range(2, count + 1):
        tests = [*before, f"k{n} IS NOT NULL", f"{rows.time(f'k{n}')} - t1 <= {window}"]
        for x, exclusion in enumerate(plan.exclusions, 1):
            if exclusion.after < n <= exclusion.before:
                tests.append(f"(e{x} IS NULL OR k{n} < e{x})")
        reached = f"({' AND '.join(tests)})"
        if not plan.steps[n - 1].optional:
            before = tests
        kept += [
            f"coalesce({reached}, FALSE) AS r{n}",
            f"CASE WHEN {reached} THEN {rows.time(f'k{n}')} END AS t{n}",
        ]
        if n in needs(plan):
            kept += [f"{p}_{n}" for p in rows.properties]
    return f"SELECT {', '.join(kept)} FROM ({attempts})"
