"""Targets as JSON values, so that a goal is known to every program that opens the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .. import when
from ..plan.select import Aggregate, Select
from ..plan.spec import field_of, has_function, select_of, spec_of
from ..query import AggregateQuery
from ..query.reach import Reach

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["reach_of", "spec_of_reach"]


@dataclass(frozen=True, slots=True, eq=False)
class _Ratio:
    """A ratio of two counts, as `biz.track.ratio` gives it."""

    top: AggregateQuery
    bottom: AggregateQuery

    @property
    def numerator(self) -> Select:
        return self.top.select

    @property
    def denominator(self) -> Select:
        return self.bottom.select

    def run(self) -> float:
        below = self.bottom.run()
        return self.top.run() / below if below else 0.0


def spec_of_reach(reach: Reach) -> dict[str, Any] | None:
    """A target as a JSON value; None where a function is part of its conditions: it can't be kept."""
    query = reach.query
    parts = [query] if isinstance(query, AggregateQuery) else [query.top, query.bottom]
    if any(has_function(part.plan.select.where) for part in parts):
        return None
    return {
        "parts": [_plan(part.plan) for part in parts],
        "target": reach.target,
        "direction": reach.direction,
    }


def reach_of(spec: dict[str, Any] | None, engine: Engine) -> Reach | None:
    """The target of a spec, None where there is none."""
    if spec is None:
        return None
    parts = [_query(part, engine) for part in spec["parts"]]
    query: Any = parts[0] if len(parts) == 1 else _Ratio(*parts)
    return Reach(query, spec["target"], spec["direction"])


def _plan(plan: Aggregate) -> dict[str, Any]:
    select = plan.select
    return {
        "select": spec_of(select),
        "since": _said(select.since),
        "until": _said(select.until),
        "operation": plan.operation,
        "field": spec_of(plan.field),
        "argument": plan.argument,
    }


def _said(moment: Any) -> Any:
    """A range's end as the user said it, in a form that JSON has."""
    if isinstance(moment, timedelta):
        return str(when.duration(moment))
    if isinstance(moment, (datetime, date)):
        return moment.isoformat()
    return float(moment) if isinstance(moment, Decimal) else moment


def _query(spec: dict[str, Any], engine: Engine) -> AggregateQuery:
    select = select_of(spec["select"])
    assert select is not None
    argument = tuple(spec["argument"]) if isinstance(spec["argument"], list) else spec["argument"]
    plan = Aggregate(
        select=replace(select, since=spec["since"], until=spec["until"]),
        operation=spec["operation"],
        field=field_of(spec["field"]),
        argument=argument,
    )
    return AggregateQuery(engine=engine, plan=plan)
