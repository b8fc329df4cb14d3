"""Ordered funnels, by ASOF joins: from each event the earliest later event of the next step.

Every attempt that reaches step 2 at one event goes on the same way from there, so the chain is followed from the
events of step 2, which are few beside those of step 1, and of the attempts that lead to it only the earliest is
looked up: the first event of step 1 not before the step 2 before (whose own chain it would join), nor before the
window's length ahead of the chain's end.

An optional step may be passed over, and then the way on depends on the attempt: those funnels follow each attempt
from its step 1. So do those that begin rarely, where step 2 is what there is most of.
"""

from __future__ import annotations

from ..plan.funnel import Exclusion
from .funnel_rows import UNLIMITED, Rows, group, needs

__all__ = ["chained", "each_attempt"]

LIKELY = 2
"""So many chains of a user are looked at before all of them are."""


def chained(rows: Rows) -> str:
    """One row per user who began, where every step must happen: `u, level, t1..tn, r1..rn, g0..` of the attempt
    that got furthest, the earliest of equals."""
    plan = rows.plan
    count = len(plan.steps)
    wanted = [m for m in sorted(needs(plan)) if m > 1]
    ctes = rows.tables()
    found = "(SELECT NULL AS user_, NULL AS best WHERE FALSE)"
    if count > 1:
        ctes += [*_chain(rows), *_attempts(rows, wanted)]
        found = "(SELECT user_, arg_max(attempt, level) AS best FROM levels GROUP BY user_)"
    shown = [
        "users.u",
        f"{rows.time('users.k1' if count == 1 else 'coalesce(best.k1, users.k1)')} AS t1",
        "TRUE AS r1",
    ]
    shown.append("1 AS level" if count == 1 else "coalesce(best.level, 1) AS level")
    for m in range(2, count + 1):
        shown += [f"{rows.time(f'best.k{m}')} AS t{m}", f"coalesce(best.level >= {m}, FALSE) AS r{m}"]
    for p in rows.properties:
        first = f"users.properties.{p}"
        shown.append(
            f"{first if count == 1 else f'CASE WHEN best IS NULL THEN {first} ELSE best.{p}_1 END'} AS {p}_1"
        )
        shown += [f"best.{p}_{m} AS {p}_{m}" for m in wanted]
    body = (
        f"SELECT {', '.join(shown)} FROM funnel_users users LEFT JOIN {found} found "
        f"ON found.user_ = users.{rows.user} WHERE users.k1 IS NOT NULL"
    )
    groups = [f", {group(rows, n, dimension)} AS g{n}" for n, dimension in enumerate(plan.by)]
    return f"{_with(ctes)}SELECT *{''.join(groups)} FROM ({body})"


def _attempts(rows: Rows, wanted: list[int]) -> list[str]:
    """`levels`: of each user, and level that an attempt got to, the earliest of these attempts.

    The first chain to the highest level, or the second, is nearly always the one that counts, if an attempt leads to
    it: that is one look at each event of step 1. Only users of whom neither does have their events joined in order
    of time.
    """
    count = len(rows.plan.steps)
    key = ", ".join([rows.user, *rows.hold])
    kept = ["k1 := a.k", *(f"k{m} := b.k{m}" for m in range(2, count + 1)), "level := b.level"]
    kept += [f"{p}_1 := a.{p}" for p in rows.properties]
    kept += [f"{p}_{m} := b.{p}_{m}" for p in rows.properties for m in wanted]
    attempt = f"b.{rows.user} AS user_, b.level, a.k, struct_pack({', '.join(kept)}) AS attempt"
    begun = f"(SELECT {', '.join([key, 'k', *rows.properties])} FROM {rows.begun})"
    ends = " UNION ALL ".join(_end(rows, m) for m in range(2, count + 1))
    properties = "".join(f", arg_min_null({p}, a.k) AS {p}" for p in rows.properties)
    named = ", ".join(f"a.{name}" for name in (rows.user, *rows.hold))
    same = _same(rows, "a", "b")
    ctes = [
        f"ends AS MATERIALIZED ({ends})",
        f"likely AS MATERIALIZED (SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY level DESC, k2) "
        f"AS place FROM ends) WHERE place <= {LIKELY})",
    ]
    attempts = []
    for place in range(1, LIKELY + 1):
        chains = f"(SELECT * FROM likely WHERE place = {place})"
        if place > 1:
            chains = f"(SELECT * FROM {chains} SEMI JOIN missed_{place - 1} USING ({key}))"
        ctes += [
            f"met_{place} AS MATERIALIZED (SELECT {named}, min(a.k) AS k{properties} FROM {begun} a JOIN {chains} b "
            f"ON {same} WHERE a.k >= b.bound AND a.k < b.k2 GROUP BY {named})",
            f"missed_{place} AS MATERIALIZED (SELECT {key} FROM {chains} ANTI JOIN met_{place} USING ({key}))",
            f"left_{place} AS MATERIALIZED (SELECT * FROM {begun} SEMI JOIN missed_{place} USING ({key}))",
        ]
        begun = f"left_{place}"
        attempts.append(
            f"SELECT {attempt} FROM (SELECT * FROM likely WHERE place = {place}) b JOIN met_{place} a ON {same}"
        )
    attempts.append(
        f"SELECT {attempt} FROM (SELECT * FROM ends SEMI JOIN missed_{LIKELY} USING ({key})) b ASOF JOIN {begun} a "
        f"ON {same} AND b.bound <= a.k WHERE a.k < b.k2"
    )
    return [
        *ctes,
        f"attempts AS ({' UNION ALL '.join(attempts)})",
        "levels AS (SELECT user_, level, arg_min(attempt, k) AS attempt FROM attempts GROUP BY ALL)",
    ]


def _with(ctes: list[str]) -> str:
    return f"WITH {', '.join(ctes)} " if ctes else ""


def _same(rows: Rows, one: str, other: str) -> str:
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in (rows.user, *rows.hold))


def _chain(rows: Rows) -> list[str]:
    """`c2`..: for each event of step 2 the way on from it, with `before`, the step 2 before it."""
    plan = rows.plan
    key = ", ".join([rows.user, *rows.hold])
    ctes = []
    for n in range(2, len(plan.steps) + 1):
        properties = rows.properties if n in needs(plan) else []
        if n == 2:
            taken = "".join(f", {p} AS {p}_2" for p in properties)
            sql = (
                f"SELECT {key}, k AS k2, lag(k) OVER (PARTITION BY {key} ORDER BY k) AS before{taken} "
                f"FROM {rows.later} WHERE f2"
            )
        else:
            taken = "".join(f", b.{p} AS {p}_{n}" for p in properties)
            columns = ", ".join([key, "k", *properties])
            sql = (
                f"SELECT a.*, b.k AS k{n}{taken} FROM c{n - 1} a ASOF LEFT JOIN "
                f"(SELECT {columns} FROM {rows.later} WHERE f{n}) b ON {_same(rows, 'a', 'b')} AND a.k{n - 1} < b.k"
            )
        for x, exclusion in enumerate(plan.exclusions, 1):
            if exclusion.after == n:
                sql = _excluded(rows, sql, x, f"a.k{n} < b.k", f"next_{x}")
            elif exclusion.after == 1 and n <= exclusion.before:
                sql = _excluded(rows, sql, x, f"a.k{n} >= b.k", f"last_{x}_{n}")
        ctes.append(f"c{n} AS MATERIALIZED ({sql})")
    return ctes


def _excluded(rows: Rows, sql: str, x: int, condition: str, name: str) -> str:
    columns = ", ".join([rows.user, *rows.hold, "k"])
    return (
        f"SELECT a.*, b.k AS {name} FROM ({sql}) a ASOF LEFT JOIN "
        f"(SELECT {columns} FROM {rows.later} WHERE x{x}) b ON {_same(rows, 'a', 'b')} AND {condition}"
    )


def _end(rows: Rows, level: int) -> str:
    """The chains that get to a level, each with `bound`, the earliest place at which an attempt may begin."""
    plan = rows.plan
    count = len(plan.steps)
    where = [f"k{level} IS NOT NULL"]
    bounds = ["before"]
    if plan.window is not None:
        where.append(f"{rows.time(f'k{level}')} - {rows.time('k2')} <= {plan.window}")
        bounds.append(rows.place(f"({rows.time(f'k{level}')} - {plan.window})"))
    for x, exclusion in enumerate(plan.exclusions, 1):
        if exclusion.after == 1:
            bounds.append(f"last_{x}_{_until(exclusion, level)}")
        elif exclusion.after < level:
            where.append(f"(next_{x} IS NULL OR k{_until(exclusion, level)} < next_{x})")
    shown = [rows.user, *rows.hold, f"{level} AS level"]
    shown.append(f"greatest({', '.join(f'coalesce({bound}, 0)' for bound in bounds)}) AS bound")
    later = [(f"k{m}", m) for m in range(2, count + 1)]
    later += [(f"{p}_{m}", m) for p in rows.properties for m in sorted(needs(plan) - {1})]
    shown += [name if m <= level else f"NULL AS {name}" for name, m in later]
    return f"SELECT {', '.join(shown)} FROM c{count} WHERE {' AND '.join(where)}"


def _until(exclusion: Exclusion, level: int) -> int:
    """The last of an attempt's steps before which the excluded event would end it."""
    return min(level, exclusion.before)


def each_attempt(rows: Rows) -> str:
    """One row per step-1 event: `u, k1, t1..tn, r1..rn, p.._1..n`."""
    plan = rows.plan
    window = UNLIMITED if plan.window is None else plan.window
    count = len(plan.steps)
    key = [rows.user, *rows.hold]
    ctes = rows.tables()
    carried = dict.fromkeys(["u", *key, "k AS k1", f"{rows.time('k')} AS t1", "TRUE AS r1"])
    carried |= dict.fromkeys(f"{p} AS {p}_1" for p in rows.properties)
    ctes.append(f"c1 AS (SELECT {', '.join(carried)} FROM {rows.begun})")
    wanted = needs(plan)
    later = rows.later
    if plan.window is not None:
        ctes += _near(rows, plan.window)
        later = "near"
    last = "k1"
    previous = "c1"
    reached = "r1"

    def following(flag: str, name: str, after: str, *more: str) -> str:
        columns = ", ".join([*key, "k", *more])
        source = f"(SELECT {columns} FROM {later} WHERE {flag})"
        return f"ASOF LEFT JOIN {source} {name} ON {_same(rows, 'a', name)} AND a.{after} < {name}.k"

    for n in range(2, count + 1):
        properties = [p for p in rows.properties if n in wanted]
        time = rows.time("b.k")
        ends = []
        valid = [f"b.k IS NOT NULL AND {time} - a.t1 <= {window}", f"a.{reached}"]
        joins = [following(f"f{n}", "b", last, *properties)]
        for x, exclusion in enumerate(plan.exclusions, 1):
            if exclusion.after == n - 1:
                ends.append(f"e{x}.k AS e{x}_{n}")
                joins.append(following(f"x{x}", f"e{x}", f"k{n - 1}"))
                valid.append(f"(e{x}.k IS NULL OR b.k < e{x}.k)")
            elif exclusion.after < n - 1 and n <= exclusion.before:
                valid.append(f"(a.e{x}_{exclusion.after + 1} IS NULL OR b.k < a.e{x}_{exclusion.after + 1})")
        test = " AND ".join(valid)
        optional = plan.steps[n - 1].optional
        taken = f"coalesce({test}, FALSE)"
        if optional:
            # Taken only if it comes before the next step that must happen.
            required = next((m for m in range(n + 1, count + 1) if not plan.steps[m - 1].optional), None)
            if required is not None:
                joins.append(following(f"f{required}", "q", last))
                taken = f"coalesce({test} AND (q.k IS NULL OR b.k < q.k), FALSE)"
        body = ", ".join(
            [
                "a.*",
                f"CASE WHEN {taken} THEN b.k END AS k{n}",
                f"CASE WHEN {taken} THEN {time} END AS t{n}",
                f"{taken} AS r{n}",
                *ends,
                *(f"b.{p} AS {p}_{n}" for p in properties),
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
    return f"{_with(ctes)}SELECT * FROM {previous}"


def _near(rows: Rows, window: int) -> list[str]:
    """`near`: of the later events those that may lie within the window of an attempt of the user. The windows' length
    cuts time into stretches, and an attempt ends in the one that it begins in or in the next: what is in neither needs
    no sorting."""
    stretch = rows.stretch(window)
    return [
        f"stretches AS MATERIALIZED (SELECT DISTINCT {rows.user}, unnest([n, n + 1]) AS n "
        f"FROM (SELECT {rows.user}, k1 // {stretch} AS n FROM c1))",
        f"near AS MATERIALIZED (SELECT * FROM {rows.later} a SEMI JOIN stretches b "
        f"ON a.{rows.user} = b.{rows.user} AND a.k // {stretch} = b.n)",
    ]
