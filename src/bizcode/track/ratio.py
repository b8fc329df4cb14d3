"""`biz.track.ratio(a, b)`: how many of one event for each of another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ..plan.condition import conditions
from ..plan.select import Aggregate, Select
from ..query import AggregateQuery
from ..query.base import Query
from ..query.compare import compare
from ..query.reach import Reach, reach
from ..record import EVENT
from .step import step_plan

if TYPE_CHECKING:
    from ..engine import Engine
    from ..store import Store

__all__ = ["RatioQuery", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class RatioQuery(Query[Any]):
    """Count of the numerator by count of the denominator, 0.0 when the denominator is 0. Its modifiers, as of
    any count, apply to both."""

    store: Store
    top: AggregateQuery
    bottom: AggregateQuery

    @property
    def numerator(self) -> Select:
        """Which events count above."""
        return self.top.select

    @property
    def denominator(self) -> Select:
        """Which events count below."""
        return self.bottom.select

    def reach(self, target: float, direction: str = "above") -> Reach:
        """A target for a goal: this ratio at or above (or with direction="below" at or below) `target`."""
        return reach(self, target, direction)

    @property
    def title(self) -> str:
        return "ratio"

    def _engine(self) -> Engine:
        return self.store.engine

    def _both(self, change: Any) -> Self:
        return replace(self, top=change(self.top), bottom=change(self.bottom))

    def unique(self) -> RatioQuery:
        """By distinct users in place of events."""

        def distinct(query: AggregateQuery) -> AggregateQuery:
            return replace(query, plan=replace(query.plan, operation="unique", field=None))

        return self._both(distinct)

    def where(self, *given: Any, **properties: Any) -> RatioQuery:
        """Only events that meet the conditions, above and below."""
        conditions(given, properties, self.store.tz)
        return self._both(lambda query: query.where(*given, **properties))

    def since(self, start: Any) -> RatioQuery:
        """Only events from then on."""
        return self._both(lambda query: query.since(start))

    def until(self, end: Any) -> RatioQuery:
        """Only events before then."""
        return self._both(lambda query: query.until(end))

    def between(self, start: Any, end: Any) -> RatioQuery:
        """Only events of [start, end)."""
        return self._both(lambda query: query.between(start, end))

    def by(self, *dimensions: Any) -> RatioQuery:
        """One ratio per group."""
        return self._both(lambda query: query.by(*dimensions))

    def limit(self, n: int) -> RatioQuery:
        """The first n groups."""
        return self._both(lambda query: query.limit(n))

    def offset(self, n: int) -> RatioQuery:
        """Leave out the first n groups."""
        return self._both(lambda query: query.offset(n))

    def vs(self, previous: str = "prev") -> RatioQuery:
        """Beside the previous range, as a Comparison."""
        return self._both(lambda query: query.vs(previous))

    def run(self) -> Any:
        plain = self._both(lambda query: replace(query, plan=replace(query.plan, limit=None, offset=0)))
        above, below = plain.top.run(), plain.bottom.run()
        compared = self.top.plan.vs is not None
        if not self.top.plan.by:
            if compared:
                return compare(_share(above.current, below.current), _share(above.previous, below.previous))
            return _share(above, below)
        keys = dict.fromkeys([*below, *above])
        if not compared:
            found = {key: _share(above.get(key) or 0, below.get(key) or 0) for key in keys}
            return self._first(found, found)
        found = {
            key: compare(
                _share(_part(above, key, "current"), _part(below, key, "current")),
                _share(_part(above, key, "previous"), _part(below, key, "previous")),
            )
            for key in keys
        }
        return self._first(found, {key: both.current for key, both in found.items()})

    def _first(self, found: dict[Any, Any], shares: dict[Any, float]) -> dict[Any, Any]:
        """In order of time, then by share, the largest first; cut to the limit."""
        plan = self.top.plan
        at = next((n for n, d in enumerate(plan.by) if d.kind == "bucket"), None)
        if at is None:
            order = sorted(found, key=lambda key: (-shares[key], str(key)))
        else:
            single = len(plan.by) == 1
            order = sorted(found, key=lambda key: (key if single else key[at], -shares[key]))
        return {key: found[key] for key in order[plan.offset : plan.stop]}

    def sql(self) -> str:
        """The two statements that answer it."""
        return f"{self.top.sql()};\n{self.bottom.sql()}"


def _share(above: Any, below: Any) -> float:
    return above / below if below else 0.0


def _part(found: Any, key: Any, which: str) -> Any:
    return getattr(found[key], which) or 0 if key in found else 0


def ratio(store: Store, numerator: Any, denominator: Any) -> RatioQuery:
    """Count of one event by count of another.

    Args:
        numerator, denominator: names of events ("PageView:/pricing" means where(path="/pricing")),
            steps, or `biz.track.X.where(...)`.
    """

    def count(given: Any) -> AggregateQuery:
        plan = step_plan(store, given, pages=True)
        names = None if plan.event == "*" else (plan.event,)
        select = Select(kind=EVENT, names=names, where=plan.where)
        return AggregateQuery(engine=store.engine, plan=Aggregate(select=select, operation="count"))

    return RatioQuery(store=store, top=count(numerator), bottom=count(denominator))
