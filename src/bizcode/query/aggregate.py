"""One number of a selection, or one per group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine.aggregate import aggregate, compile_aggregate, rolled_up
from ..errors import InvalidQuery
from ..plan.select import Aggregate, Select, dimension
from .base import Query
from .compare import compare
from .reach import Reach, reach
from .selection import Selection, check_count

if TYPE_CHECKING:
    from ..engine import Engine, Session

__all__ = ["AggregateQuery"]

PREVIOUS = ("prev", "prev_week", "prev_month", "prev_quarter", "prev_year")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class AggregateQuery(Selection, Query[Any]):
    """A count, sum, average, ... Its modifiers come in any order."""

    engine: Engine
    plan: Aggregate

    @property
    def select(self) -> Select:
        return self.plan.select

    def _with(self, select: Select) -> AggregateQuery:
        return replace(self, plan=replace(self.plan, select=select))

    def by(self, *dimensions: Any) -> AggregateQuery:
        """Group by properties and at most one time bucket. The result is an ordered mapping.

        Args:
            dimensions: "plan", "month", prop("month"), "user", "event", "experiment:<name>".
        """
        if not dimensions:
            raise InvalidQuery("by() takes at least one property or time bucket")
        found = (*self.plan.by, *map(dimension, dimensions))
        if sum(1 for d in found if d.kind == "bucket") > 1:
            raise InvalidQuery(
                "by() takes one time bucket: group by the finest and add up, or use prop(name)"
            )
        return replace(self, plan=replace(self.plan, by=found))

    def limit(self, n: int) -> AggregateQuery:
        """The first n groups of the result's order."""
        return replace(self, plan=replace(self.plan, limit=check_count(n, "limit")))

    def offset(self, n: int) -> AggregateQuery:
        """Leave out the first n groups."""
        return replace(self, plan=replace(self.plan, offset=check_count(n, "offset")))

    def vs(self, previous: str = "prev") -> AggregateQuery:
        """Beside the previous range: "prev", "prev_week", "prev_month", "prev_quarter", "prev_year".
        The result is a Comparison, or a mapping of them where there are groups."""
        if previous not in PREVIOUS:
            raise InvalidQuery(f"vs() takes one of {', '.join(PREVIOUS)}, not {previous!r}")
        return replace(self, plan=replace(self.plan, vs=previous))

    def reach(self, target: float, direction: str = "above") -> Reach:
        """A target for a goal: this number at or above (or with direction="below" at or below) `target`."""
        return reach(self, target, direction)

    @property
    def title(self) -> str:
        return self.plan.operation

    @property
    def caption(self) -> str:
        plan = self.plan
        what = ", ".join(plan.select.names or ()) or "all events"
        of = "" if plan.field is None else f" of {'.'.join(plan.field.path)}"
        number = f"{plan.argument:g}th percentile" if plan.operation == "percentile" else plan.operation
        by = f" by {', '.join(dimension.name for dimension in plan.by)}" if plan.by else ""
        return f"{what}: {number}{of}{by}"

    def _engine(self) -> Engine:
        return self.engine

    def run(self) -> Any:
        with self.engine.asking() as session:
            if self.plan.vs is not None:
                return self._compared(session)
            return aggregate(session, self.plan)

    def _compared(self, session: Session) -> Any:
        # Both sides whole: a group that only one of them would keep has a number on the other too.
        plan = replace(self.plan, vs=None, limit=None, offset=0)
        current_range, previous_range = self._ranges(session)
        current = self._over(session, plan, current_range)
        previous = self._over(session, plan, previous_range)
        if not plan.by:
            return compare(current, previous)
        bucket = next((n for n, d in enumerate(plan.by) if d.kind == "bucket"), None)
        zero = 0 if plan.operation in ("count", "sum", "unique") else None
        if bucket is None:
            keys = dict.fromkeys([*current, *previous])
            found = {key: compare(current.get(key, zero), previous.get(key, zero)) for key in keys}
        else:
            found = _aligned(current, previous, bucket, len(plan.by) == 1, zero)
        return dict(islice(found.items(), self.plan.offset, self.plan.stop))

    def _ranges(self, session: Session) -> tuple[when.Range, when.Range]:
        current = session.range(self.select)
        if current.since is None:
            raise InvalidQuery("vs() compares ranges: say which, for example .since('7d') or .since('month')")
        previous = when.previous(current, session.now, session.tz, self.plan.vs or "prev")
        return current, previous

    def _over(self, session: Session, plan: Aggregate, range_: when.Range) -> Any:
        select = replace(
            plan.select,
            since=None if range_.since is None else when.to_datetime(range_.since),
            until=None if range_.until is None else when.to_datetime(range_.until),
        )
        return aggregate(session, replace(plan, select=select))

    def sql(self) -> str:
        """The SQL that answers it, with its parameters below as comments. Of a metric with a rollup it says
        which part of the range comes from which granularity, and which from the samples."""
        with self.engine.session() as session:
            levels = rolled_up(session, self.plan)
            plans = (
                [self.plan]
                if levels is None
                else [levels.plain(p) for p in levels.pieces if p.source == "raw"]
            )
            texts = [] if levels is None else list(levels.lines())
            for plan in plans:
                compiled = compile_aggregate(session, plan)
                texts.append(shown(compiled.sql, compiled.parameters.values))
        return "\n".join(texts)


def shown(sql: str, values: list[Any]) -> str:
    """A statement as text, each parameter on a comment line."""
    return "\n".join([sql, *(f"-- ${n} = {value!r}" for n, value in enumerate(values, 1))])


def _aligned(current: dict, previous: dict, at: int, single: bool, zero: Any) -> dict:
    """The n-th bucket beside the n-th of the previous range, group by group."""

    def split(found: dict) -> tuple[list[Any], dict[Any, dict[Any, Any]]]:
        moments: dict[Any, None] = {}
        groups: dict[Any, dict[Any, Any]] = {}
        for key, value in found.items():
            parts = (key,) if single else key
            moments[parts[at]] = None
            groups.setdefault(parts[:at] + parts[at + 1 :], {})[parts[at]] = value
        return list(moments), groups

    moments, groups = split(current)
    before, older = split(previous)
    result = {}
    for n, moment in enumerate(moments):
        then = before[n] if n < len(before) else None
        for other in dict.fromkeys([*groups, *older]):
            key = moment if single else (*other[:at], moment, *other[at:])
            now_value = groups.get(other, {}).get(moment, zero)
            then_value = older.get(other, {}).get(then, zero) if then is not None else zero
            result[key] = compare(now_value, then_value)
    return result
