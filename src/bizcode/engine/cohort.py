"""Cohorts in SQL: each user's anchor, then what she does, by the number of periods since."""

from __future__ import annotations

from dataclasses import replace

from ..plan.cohort import CohortPlan
from ..plan.funnel import FunnelPlan, StepPlan
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import EVENT
from . import buckets
from .engine import Session
from .funnel_rows import extents
from .relation import Column, Relation, key_column

__all__ = ["cohorts"]

_DAY = 86_400_000_000
_EXACT = {"minute": 60_000_000, "hour": 3_600_000_000, "day": _DAY, "week": 7 * _DAY}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def cohorts(session: Session, plan: CohortPlan) -> tuple[str, Parameters, Relation]:
    """SQL of `g0.., bucket, size, earliest, period, users, total`: for each cohort the users active in each
    period (a row with period NULL stands for a cohort without any activity)."""
    parameters = Parameters()
    spans = FunnelPlan(steps=(plan.anchor, plan.activity))
    low, high, _, _ = extents(session, spans)
    anchors, relation = _anchors(session, plan, parameters, low, high)
    activity = _activity(session, plan, parameters)
    groups = [f"g{n}" for n in range(len(plan.by))]
    key = buckets.expression("make_timestamptz(t)", plan.granularity, session.tz, low, high + 1)
    if plan.rolling:
        period = _rolled("a.t", "e.t", plan.granularity, session, low, high + 1)
    else:
        period = f"{_index(key.replace('(t)', '(e.t)'), plan.granularity)} - {_index('a.bucket', plan.granularity)}"
    total = "sum(e.x)" if plan.value is not None else "NULL"
    ctes = [
        f"anchors AS MATERIALIZED ({anchors})",
        f"activity AS ({activity})",
        f"done AS (SELECT {', '.join([*(f'a.{g}' for g in groups), 'a.bucket', 'a.u', f'{period} AS period'])}, "
        f"count(*) AS n, {total} AS total FROM activity e JOIN anchors a ON a.u = e.u AND e.t >= a.t GROUP BY ALL)",
        f"active AS (SELECT * FROM done WHERE period >= 0 AND n >= {plan.min_count})",
    ]
    by = ", ".join([*groups, "bucket"])
    if plan.cumulative:
        # Active in the period or any later one: the last active period says it all.
        last = f"SELECT {by}, u, max(period) AS last FROM active GROUP BY ALL"
        counted = (
            f"SELECT {by}, p.period AS period, count(*) AS users FROM ({last}) l, "
            f"(SELECT unnest(range({plan.periods})) AS period) p WHERE l.last >= p.period GROUP BY ALL"
        )
    else:
        counted = (
            f"SELECT {by}, period, count(*) AS users FROM active WHERE period < {plan.periods} GROUP BY ALL"
        )
    values = f"SELECT {by}, period, sum(total) AS total FROM done WHERE period BETWEEN 0 AND {plan.periods - 1} GROUP BY ALL"
    sizes = f"SELECT {by}, count(*) AS size, min(t) AS earliest FROM anchors GROUP BY ALL"
    same = " AND ".join(f"{{0}}.{name} IS NOT DISTINCT FROM {{1}}.{name}" for name in [*groups, "bucket"])
    both = (
        f"SELECT coalesce(c.period, v.period) AS period, coalesce(c.users, 0) AS users, v.total AS total, "
        f"{', '.join(f'coalesce(c.{name}, v.{name}) AS {name}' for name in [*groups, 'bucket'])} "
        f"FROM ({counted}) c FULL JOIN ({values}) v ON {same.format('c', 'v')} AND c.period = v.period"
    )
    shown = ", ".join([*(f"s.{g}" for g in groups), "s.bucket", "s.size", "s.earliest"])
    sql = (
        f"WITH {', '.join(ctes)} SELECT {shown}, b.period, b.users, b.total FROM ({sizes}) s "
        f"LEFT JOIN ({both}) b ON {same.format('s', 'b')}"
    )
    return sql, parameters, relation


def _anchors(
    session: Session, plan: CohortPlan, parameters: Parameters, low: int, high: int
) -> tuple[str, Relation]:
    """SQL of `u, t, bucket, g0..`: the first anchor event of each user, or of each user and bucket.

    The range bounds the anchor events: of a user's only one, which is the first of all history, afterwards."""
    columns: dict[str, Column] = {
        "u": Column("user"),
        "position": Column("position"),
        "moment": Column("timestamp"),
    }
    for n, dimension in enumerate(plan.by):
        columns[f"p{n}"] = key_column(dimension)
    select = _select(plan, plan.anchor)
    bounded = replace(select, since=plan.since, until=plan.until)
    first, last = session.range(bounded).bounds
    relation = session.relation(bounded if plan.recurring else select, columns, parameters)
    key = buckets.expression("moment", plan.granularity, session.tz, low, high + 1)
    properties = [f"p{n}" for n in range(len(plan.by))]
    fields = ", ".join(["t := epoch_us(moment)", f"bucket := {key}", *(f"{p} := {p}" for p in properties)])
    grouping = "u" if not plan.recurring else f"u, {key}"
    inner = (
        f"SELECT u, arg_min(struct_pack({fields}), struct_pack(a := moment, b := position)) AS s "
        f"FROM ({relation.sql}) WHERE u IS NOT NULL GROUP BY {grouping}"
    )
    where = []
    if first is not None and not plan.recurring:
        where.append(f"s.t >= {first}")
    if last is not None and not plan.recurring:
        where.append(f"s.t < {last}")
    groups = [f"s.p{n} AS g{n}" for n in range(len(plan.by))]
    shown = ", ".join(["u", "s.t AS t", "s.bucket AS bucket", *groups])
    return f"SELECT {shown} FROM ({inner})" + (f" WHERE {' AND '.join(where)}" if where else ""), relation


def _activity(session: Session, plan: CohortPlan, parameters: Parameters) -> str:
    columns: dict[str, Column] = {"u": Column("user"), "moment": Column("timestamp")}
    if plan.value is not None:
        columns["x"] = Column("number", plan.value)
    relation = session.relation(_select(plan, plan.activity), columns, parameters)
    value = ", x" if plan.value is not None else ""
    return f"SELECT u, epoch_us(moment) AS t{value} FROM ({relation.sql}) WHERE u IS NOT NULL"


def _select(plan: CohortPlan, step: StepPlan) -> Select:
    names = None if step.event == "*" else (step.event,)
    return Select(kind=EVENT, names=names, where=plan.where).and_where(step.where)


def _index(key: str, unit: str) -> str:
    """SQL: consecutive numbers for consecutive buckets, from what `buckets.expression` gives."""
    if unit in _EXACT:
        shift = 3 * _DAY if unit == "week" else 0
        # Half a bucket more: an hour's start needs no whole hours' distance where the zone's offset is odd.
        return f"(({key} + {shift + 700_000 * _DAY}) // {_EXACT[unit]})"
    moment = f"make_timestamp({key})"
    return f"((year({moment}) * 12 + month({moment}) - 1) // {_MONTHS[unit]})"


def _rolled(start: str, moment: str, unit: str, session: Session, low: int, high: int) -> str:
    """SQL: whole units from a user's own anchor to an instant."""
    if unit in _EXACT:
        return f"(({moment} - {start}) // {_EXACT[unit]})"
    from .buckets import local

    a, b = (local(at, session.tz, low, high) for at in (start, moment))
    months = f"((year({b}) - year({a})) * 12 + month({b}) - month({a}))"
    # A month later is the same day and time, or the month's last day where it has no such day.
    reached = f"({a} + to_months(CAST({months} AS INTEGER)) <= {b})"
    return f"(({months} - CASE WHEN {reached} THEN 0 ELSE 1 END) // {_MONTHS[unit]})"
