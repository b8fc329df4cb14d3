"""From the log to sufficient statistics: who was exposed, then one SQL plan per kind of goal over it.

The plan of every goal is the same: the goal's records, joined to the exposed users, grouped by user, then
by variant. Users are numbered when the exposures are read, so that the large grouping is over integers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from .. import when
from ..engine import Column, Session
from ..engine import buckets as bucket_sql
from ..engine.relation import VALUE
from ..plan.condition import Compare
from ..plan.fields import Field
from ..plan.select import Select
from ..plan.sql import Parameters, instant
from ..record import EVENT, MEASURE, SYSTEM
from .goal import Goal

__all__ = ["Arm", "Exposed", "arms", "daily_arms", "exposed"]

_AFTER = "(g.moment > e.moment OR (g.moment = e.moment AND g.place > e.place))"
_PLACES = "9223372036854775808::HUGEINT"
"""More than there are positions: a time and a position are one number, which orders as both do."""
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one variant. `n` users have a value (all of them, but for averages and percentiles),
    with this mean and sample variance; `error` is the squared standard error of the mean. `x_*` are the
    same users' metric before exposure."""

    users: int
    did: int
    n: int
    mean: float | None
    variance: float | None
    error: float | None
    x_mean: float | None = None
    x_variance: float | None = None
    covariance: float | None = None


@dataclass(frozen=True, slots=True)
class Exposed:
    """The exposed users, in a temporary table of the session: n, who, variant, moment, place, single (whether
    the user was seen in one variant only), k (the group, as JSON text). `low` is the first exposure, `middle` the median."""

    table: str
    low: int | None
    middle: int | None
    multiple: int


def exposed(session: Session, experiment: str, end: int, by: Field | None) -> Exposed:
    """Every user's first exposure up to an instant; merged ids are one user.

    Args:
        by: groups by that property as given at the assignment, else as the newest event before it had it.
    """
    parameters = Parameters()
    columns = {
        "who": Column("user"),
        "variant": Column("text", Field(("variant",), raw=True)),
        "moment": Column("timestamp"),
        "place": Column("position"),
    }
    if by is not None:
        columns["k"] = Column("key", Field(("properties", *by.path), raw=True))
    mine = Compare(Field(("experiment",), raw=True), "eq", experiment)
    until = when.to_datetime(end + 1)
    select = Select(kind=SYSTEM, names=("exposure",), where=mine, until=until)
    relation = session.relation(select, columns, parameters)
    key = "CAST(NULL AS VARCHAR)"
    if by is not None:
        key = f"arg_min({_json('k', relation.readings['k'])}, first)"
    table = f"exposed_{next(session._tables)}"
    session.keep(
        table,
        f"SELECT {session.number('who')} AS n, * FROM ("
        f"SELECT who, arg_min(variant, first) AS variant, min(moment) AS moment, "
        f"(min(first) - epoch_us(min(moment)) * {_PLACES})::BIGINT AS place, "
        f"min(variant) = max(variant) AS single, {key} AS k "
        f"FROM (SELECT *, epoch_us(moment) * {_PLACES} + place AS first FROM ({relation.sql})) "
        f"WHERE who IS NOT NULL GROUP BY who)",
        parameters,
    )
    if by is not None:
        table = _fill_keys(session, table, by, until)
    found = session.fetch(
        f"SELECT min(epoch_us(moment)), quantile_disc(epoch_us(moment), 0.5), count(*) FILTER (NOT single) FROM {table}"
    )[0]
    return Exposed(table, *found)


def _fill_keys(session: Session, table: str, by: Field, until: Any) -> str:
    """Where the assignment was given no such property, the newest event before it tells it: the table with that."""
    parameters = Parameters()
    columns = {
        "who": Column("user"),
        "moment": Column("timestamp"),
        "place": Column("position"),
        "k": Column("key", by),
    }
    select = Select(kind=EVENT, where=Compare(by, "exists", True), until=until)
    relation = session.relation(select, columns, parameters)
    filled = f"exposed_{next(session._tables)}"
    session.keep(
        filled,
        f"SELECT t.n, t.who, t.variant, t.moment, t.place, t.single, coalesce(t.k, f.k) AS k FROM {table} t "
        f"LEFT JOIN (SELECT e.n, arg_max({_json('g.k', relation.readings['k'])}, (g.moment, g.place)) AS k "
        f"FROM ({relation.sql}) g JOIN {table} e ON g.who = e.who "
        f"WHERE e.k IS NULL AND NOT {_AFTER} GROUP BY e.n) f ON t.n = f.n",
        parameters,
    )
    return filled


def _json(column: str, reading: str) -> str:
    """A "key" column as JSON text, whole doubles like ints, so that 1 and 1.0 are one group."""
    if reading == "mixed":
        return column
    if reading == "double":
        whole = f"{column} = trunc({column}) AND abs({column}) < 9007199254740992"
        return (
            f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) "
            f"ELSE CAST(to_json({column}) AS VARCHAR) END"
        )
    return f"CAST(to_json({column}) AS VARCHAR)"


def key_of(text: str | None) -> Any:
    """The group of a JSON text; lists and objects stay text."""
    if text is None:
        return None
    found = orjson.loads(text)
    return text if isinstance(found, (dict, list)) else found


def _goal(session: Session, goal: Goal, low: int | None, end: int, parameters: Parameters) -> str:
    """SQL of the goal's records: who, moment, place, and x where the goal is over a property."""
    columns = {"who": Column("user"), "moment": Column("timestamp"), "place": Column("position")}
    field = goal.field
    if field is None and goal.select.kind == MEASURE and goal.kind in ("sum", "avg", "percentile"):
        field = VALUE
    if goal.kind == "distinct":
        columns["x"] = Column("key", field)
    elif field is not None:
        columns["x"] = Column("number", field)
    since = None if low is None else when.to_datetime(low)
    select = replace(goal.select, since=since, until=when.to_datetime(end + 1))
    return session.relation(select, columns, parameters).sql


def _per_user(kind: str, which: str) -> str:
    """SQL of a user's metric over those of her records that `which` says."""
    if kind == "conversion":
        return f"CAST(count(*) FILTER ({which}) > 0 AS INT)"
    if kind == "count":
        return f"count(*) FILTER ({which})"
    if kind == "distinct":
        return f"count(DISTINCT x) FILTER ({which})"
    if kind == "sum":
        return f"coalesce(sum(x) FILTER ({which}), 0)"
    return f"avg(x) FILTER ({which})"


def arms(
    session: Session,
    goal: Goal | None,
    among: Exposed,
    end: int,
    *,
    before: int | None = None,
    cuped: bool = False,
    winsorize: float | None = None,
) -> dict[tuple[Any, str, bool | None], Arm]:
    """An Arm for each (group, variant, None), and for its users exposed in the first (False) and second
    (True) half of all.

    Args:
        end: the last instant that counts, in microseconds.
        cuped: with the metric before exposure; `before`: only so many microseconds before it.
        winsorize: values above this quantile of all users' values count as that quantile.
    """
    if among.low is None:
        return {}
    if goal is None or goal.kind == "percentile":
        found = _counted(session, among)
        return found if goal is None else {**found, **_percentiles(session, goal, among, end)}
    low = among.low if not cuped else None if before is None else among.low - before
    parameters = Parameters()
    relation = _goal(session, goal, low, end, parameters)
    where = "TRUE" if cuped else _AFTER
    after = "after" if cuped else "TRUE"
    x = _per_user(goal.kind, "NOT after AND moment >= back" if before is not None else "NOT after")
    back = f", make_timestamptz(epoch_us(e.moment) - {int(before)}) AS back" if before is not None else ""
    columns = f"e.n, g.moment{', g.x' if goal.kind in ('distinct', 'sum', 'avg') else ''}"
    flag = f", {_AFTER} AS after{back}" if cuped else ""
    facts = (
        f"SELECT n, {_per_user(goal.kind, after)} AS y{f', {x} AS x' if cuped else ''}, "
        f"count(*) FILTER ({after}) > 0 AS did "
        f"FROM (SELECT {columns}{flag} FROM ({relation}) g JOIN {among.table} e ON g.who = e.who "
        f"WHERE {where}) GROUP BY n"
    )
    y = "CAST(f.y AS DOUBLE)" if goal.kind == "avg" else "CAST(coalesce(f.y, 0) AS DOUBLE)"
    if cuped:
        x = "CAST(f.x AS DOUBLE)" if goal.kind == "avg" else "CAST(coalesce(f.x, 0) AS DOUBLE)"
        if goal.kind == "avg":
            # A user without values before says nothing about hers: the mean moves nothing.
            x = f"coalesce({x}, avg({x}) OVER (), 0)"
        extra = ", avg(x), var_samp(x) FILTER (y IS NOT NULL), covar_samp(y, x)"
        extra = extra.replace("avg(x),", "avg(x) FILTER (y IS NOT NULL),")
    else:
        x, extra = "NULL", ", NULL, NULL, NULL"
    middle = instant(among.middle or 0)
    users = (
        f"SELECT e.k, e.variant, e.moment > {middle} AS late, coalesce(f.did, FALSE) AS did, {y} AS y, {x} AS x "
        f"FROM {among.table} e LEFT JOIN ({facts}) f ON e.n = f.n WHERE e.single"
    )
    capped = "y"
    if winsorize is not None:
        users = (
            f"SELECT k, variant, late, did, x, least(y, quantile_cont(y, {float(winsorize)!r}) OVER ()) AS y "
            f"FROM ({users})"
        )
    sql = (
        f"SELECT k, variant, late, grouping(late), count(*), count(*) FILTER (did), count({capped}), avg(y), "
        f"var_samp(y){extra} FROM ({users}) GROUP BY GROUPING SETS ((k, variant), (k, variant, late))"
    )
    found = {}
    for k, variant, late, whole, *rest in session.fetch(sql, parameters):
        found[key_of(k), variant, None if whole else late] = _arm(*rest)
    return found


def _arm(
    users: int,
    did: int,
    n: int,
    mean: float | None,
    variance: float | None,
    x_mean: float | None = None,
    x_variance: float | None = None,
    covariance: float | None = None,
) -> Arm:
    error = variance / n if n and variance is not None else None
    return Arm(users, did, n, mean, variance, error, x_mean, x_variance, covariance)


def _counted(session: Session, among: Exposed) -> dict[tuple[Any, str, bool | None], Arm]:
    sql = f"SELECT k, variant, count(*) FROM {among.table} WHERE single GROUP BY k, variant"
    return {
        (key_of(k), variant, None): Arm(users, 0, 0, None, None, None)
        for k, variant, users in session.fetch(sql)
    }


def _percentiles(
    session: Session, goal: Goal, among: Exposed, end: int
) -> dict[tuple[Any, str, bool | None], Arm]:
    """The percentile of all values of each variant's users. Its error: the share of values below it has the
    variance of a ratio of two sums over users (the delta method), and the quantiles at the ends of that
    share's interval give the interval of the percentile (Deng, Knoblich, Lu: Applying the Delta Method in
    Metric Analytics, KDD 2018)."""
    parameters = Parameters()
    relation = _goal(session, goal, among.low, end, parameters)
    table = f"values_{next(session._tables)}"
    session.keep(
        table,
        f"SELECT e.n, e.k, e.variant, CAST(g.x AS DOUBLE) AS x "
        f"FROM ({relation}) g JOIN {among.table} e ON g.who = e.who "
        f"WHERE e.single AND g.x IS NOT NULL AND {_AFTER}",
        parameters,
    )
    p = float(goal.argument or 0)
    users = {
        (k, variant): count
        for k, variant, count in session.fetch(
            f"SELECT k, variant, count(*) FROM {among.table} WHERE single GROUP BY k, variant"
        )
    }
    sql = (
        f"WITH q AS (SELECT k, variant, quantile_cont(x, {p!r}) AS q FROM {table} GROUP BY k, variant) "
        f"SELECT k, variant, any_value(q), count(*), avg(m), avg(h), var_samp(m), var_samp(h), covar_samp(m, h) "
        f"FROM (SELECT v.n, v.k, v.variant, any_value(q.q) AS q, count(*) AS m, count(*) FILTER (v.x <= q.q) AS h "
        f"FROM {table} v JOIN q ON v.variant = q.variant AND v.k IS NOT DISTINCT FROM q.k GROUP BY v.n, v.k, v.variant) "
        f"GROUP BY k, variant"
    )
    found = {}
    for k, variant, value, n, m, h, m2, h2, mh in session.fetch(sql):
        error = None
        if n > 1:
            share = h / m
            spread = max(0.0, (h2 - 2 * share * mh + share * share * m2) / (m * m * n))
            half = _Z * spread**0.5
            levels = f"[{max(0.0, p - half)!r}, {min(1.0, p + half)!r}]"
            mine = Parameters()
            low, high = session.fetch(
                f"SELECT quantile_cont(x, {levels}) FROM {table} WHERE variant = {mine.add(variant)} "
                f"AND k IS NOT DISTINCT FROM {mine.add(k)}",
                mine,
            )[0][0]
            error = ((high - low) / (2 * _Z)) ** 2
        found[key_of(k), variant, None] = Arm(users[k, variant], n, n, value, None, error)
    return found


def daily_arms(
    session: Session, goal: Goal, among: Exposed, end: int, starts: list[int]
) -> list[dict[str, Arm]]:
    """For each day the Arms of everything up to its end, in one pass: a user's metric grows by a step on
    each of her days, and the sums of the steps and of the squares' steps add up over users and days."""
    low = among.low if among.low is not None else end
    day = bucket_sql.expression("moment", "day", session.tz, min(low, starts[0]), end + 1)
    parameters = Parameters()
    relation = _goal(session, goal, low, end, parameters)
    x = ", g.x" if goal.kind in ("distinct", "sum", "avg") else ""
    events = (
        f"SELECT e.n, e.variant, g.moment{x} FROM ({relation}) g JOIN {among.table} e ON g.who = e.who "
        f"WHERE e.single AND {_AFTER}"
    )
    if goal.kind == "distinct":
        events = f"SELECT n, variant, min(moment) AS moment, x FROM ({events}) GROUP BY n, variant, x"
    numeric = goal.kind in ("sum", "avg")
    counted = "count(x)" if goal.kind == "distinct" else "count(*)"
    total = "sum(coalesce(CAST(x AS DOUBLE), 0))" if numeric else counted
    values = "count(x)" if numeric else "count(*)"
    per_day = (
        f"SELECT n, variant, {day} AS day, {total} AS s, {values} AS c, count(*) AS r "
        f"FROM ({events}) GROUP BY n, variant, day"
    )
    running = (
        f"SELECT n, variant, day, sum(s) OVER w AS s, sum(c) OVER w AS c, sum(r) OVER w AS r, "
        f"(sum(s) OVER w) - s AS s0, (sum(c) OVER w) - c AS c0, (sum(r) OVER w) - r AS r0 "
        f"FROM ({per_day}) WINDOW w AS (PARTITION BY n ORDER BY day)"
    )
    if goal.kind == "conversion":
        y, y0 = "CAST(c > 0 AS INT)", "CAST(c0 > 0 AS INT)"
    elif goal.kind == "avg":
        y, y0 = "CASE WHEN c > 0 THEN s / c ELSE 0 END", "CASE WHEN c0 > 0 THEN s0 / c0 ELSE 0 END"
    else:
        y, y0 = "s", "s0"
    sql = (
        f"SELECT variant, day, sum(CAST(y - y0 AS DOUBLE)), sum(CAST(y * y - y0 * y0 AS DOUBLE)), "
        f"count(*) FILTER (c > 0 AND c0 = 0), count(*) FILTER (r0 = 0) "
        f"FROM (SELECT *, {y} AS y, {y0} AS y0 FROM ({running})) GROUP BY variant, day"
    )
    steps = session.fetch(sql, parameters)
    joined = session.fetch(
        f"SELECT variant, {day} AS day, count(*) FROM {among.table} WHERE single GROUP BY variant, day"
    )
    moments = bucket_sql.starts(sorted({row[1] for row in (*steps, *joined)}), "day", session.tz)
    place = {start: n for n, start in enumerate(starts)}
    users: list[dict[str, int]] = [{} for _ in starts]
    for variant, key, count in joined:
        users[place[moments[key]]][variant] = count
    sums: list[dict[str, tuple[float, ...]]] = [{} for _ in starts]
    for variant, key, *rest in steps:
        sums[place[moments[key]]][variant] = tuple(rest)
    return _cumulated(goal, users, sums)


def _cumulated(
    goal: Goal, users: list[dict[str, int]], sums: list[dict[str, tuple[float, ...]]]
) -> list[dict[str, Arm]]:
    total_users: dict[str, int] = {}
    totals: dict[str, list[float]] = {}
    found = []
    for joined, steps in zip(users, sums, strict=True):
        for variant, count in joined.items():
            total_users[variant] = total_users.get(variant, 0) + count
        for variant, step in steps.items():
            before = totals.get(variant, [0.0] * 4)
            totals[variant] = [a + b for a, b in zip(before, step, strict=True)]
        day = {}
        for variant, count in total_users.items():
            s, squares, valued, did = totals.get(variant, [0.0] * 4)
            n = int(valued) if goal.kind == "avg" else count
            mean = s / n if n else None
            variance = max(0.0, (squares - s * s / n) / (n - 1)) if n > 1 else None
            day[variant] = _arm(count, int(did), n, mean, variance)
        found.append(day)
    return found
