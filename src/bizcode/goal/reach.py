"""Targets, evaluated at any instant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import when
from ..errors import InvalidQuery
from ..query import AggregateQuery
from ..query.reach import Reach

__all__ = ["Reach", "cumulative", "evaluate"]

_CUMULATIVE = ("sum", "count", "unique")


def check(given: Any) -> Reach:
    """A target as a goal takes it: a Reach over a query of one number. Raises InvalidQuery."""
    if not isinstance(given, Reach):
        raise InvalidQuery(
            f"a target is made by .reach(number), like biz.measure.mrr.reach(50_000), not {given!r}"
        )
    for query in _parts(given.query):
        if query.plan.by or query.plan.vs is not None:
            raise InvalidQuery("a target is one number: leave out by() and vs()")
    return given


def _parts(query: Any) -> list[AggregateQuery]:
    return [query] if isinstance(query, AggregateQuery) else [query.top, query.bottom]


def cumulative(target: Reach) -> bool:
    """Whether the value only adds up over time, so that it is projected along its rate."""
    query = target.query
    return isinstance(query, AggregateQuery) and query.plan.operation in _CUMULATIVE


def evaluate(query: Any, at: int | None) -> Any:
    """The query's value as of an instant (None: now)."""
    if at is None:
        return query.run()
    parts = [_value_at(part, at) for part in _parts(query)]
    if len(parts) == 1:
        return parts[0]
    return parts[0] / parts[1] if parts[1] else 0.0


def _value_at(query: AggregateQuery, at: int) -> Any:
    from ..engine.aggregate import aggregate
    from ..engine.cover import Expired

    select = query.plan.select
    with query.engine.asking() as session:
        session.now = at
        bounds = when.resolve_range(select.since, select.until, at, session.tz)
        end = at + 1 if bounds.until is None else min(bounds.until, at + 1)
        if bounds.since is not None and bounds.since > end:
            end = bounds.since
        since = None if bounds.since is None else when.to_datetime(bounds.since)

        def until(end: int) -> Any:
            plan = replace(query.plan, select=replace(select, since=since, until=when.to_datetime(end)))
            return aggregate(session, plan)

        try:
            return until(end)
        except Expired as error:
            # Its samples are gone: as of the last bucket's edge then, which the rollup knows.
            if error.edge is None or error.edge == end:
                raise
            return until(max(error.edge, bounds.since or error.edge))
