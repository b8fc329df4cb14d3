"""`biz.track.cohort(...)`: who comes back, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine import buckets
from ..engine import cohort as sql
from ..engine.aggregate import decode, number
from ..engine.groups import apart, mapping
from ..errors import InvalidQuery
from ..plan.cohort import CohortPlan
from ..plan.condition import And, conditions
from ..plan.fields import as_field
from ..plan.select import dimension
from ..query.aggregate import shown
from ..query.base import Query
from .step import step_plan

if TYPE_CHECKING:
    from ..engine import Engine, Session
    from ..store import Store

__all__ = ["Cohort", "CohortQuery", "Cohorts", "cohort"]

MOST_PERIODS = 1_000


@dataclass(frozen=True, slots=True)
class Cohort:
    """The users of one bucket. `counts` and `retention` (0..1) have one entry per period, None where the
    period has not begun; `values` is the sum over the cohort, where `.sum(property)` asks for it."""

    start: datetime
    size: int
    counts: list[int | None]
    retention: list[float | None]
    values: list[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Cohorts:
    """The cohorts in order of time; those without users are left out."""

    granularity: str
    cohorts: list[Cohort]

    def __iter__(self) -> Iterator[Cohort]:
        return iter(self.cohorts)

    def __len__(self) -> int:
        return len(self.cohorts)

    def __getitem__(self, n: int) -> Cohort:
        return self.cohorts[n]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class CohortQuery(Query[Any]):
    """A retention table. The result is Cohorts, or a mapping of them where it is split by a property."""

    store: Store
    plan: CohortPlan

    @property
    def title(self) -> str:
        return "cohorts"

    def _engine(self) -> Engine:
        return self.store.engine

    def _plan(self, **changes: Any) -> CohortQuery:
        return replace(self, plan=replace(self.plan, **changes))

    def since(self, start: Any) -> CohortQuery:
        """Users whose first anchor event of all history lies there or later. Raises InvalidTime."""
        when.resolve_range(when.given(start), self.plan.until, self.store.now(), self.store.tz)
        return self._plan(since=start)

    def until(self, end: Any) -> CohortQuery:
        """Users whose first anchor event lies before. Raises InvalidTime."""
        when.resolve_range(self.plan.since, when.given(end), self.store.now(), self.store.tz)
        return self._plan(until=end)

    def between(self, start: Any, end: Any) -> CohortQuery:
        """Users whose first anchor event lies in [start, end). Raises InvalidTime."""
        when.resolve_range(when.given(start), when.given(end), self.store.now(), self.store.tz)
        return self._plan(since=start, until=end)

    def where(self, *given: Any, **properties: Any) -> CohortQuery:
        """Only events that meet the conditions, anchors and activity alike."""
        condition = conditions(given, properties, self.store.tz)
        return self._plan(where=And((self.plan.where, condition)))

    def by(self, *dimensions: Any) -> CohortQuery:
        """Split by a property's value at the user's anchor event."""
        found = (*self.plan.by, *map(dimension, dimensions))
        if not dimensions or any(d.kind == "bucket" for d in found):
            raise InvalidQuery("a cohort table is split by properties; its time buckets are the granularity")
        return self._plan(by=found)

    def rolling(self) -> CohortQuery:
        """Periods as exact multiples from each user's own anchor event."""
        return self._plan(rolling=True)

    def on_or_after(self) -> CohortQuery:
        """A user counts in a period who is active in it or in any later one."""
        return self._plan(cumulative=True)

    def sum(self, property: Any) -> CohortQuery:
        """Add `values`: the sum of a property of the activity, over the cohort and period."""
        return self._plan(value=as_field(property))

    def run(self) -> Any:
        with self.store.engine.asking() as session:
            statement, parameters, relation = sql.cohorts(session, self.plan)
            rows = session.fetch(statement, parameters)
            groups: dict[Any, tuple[Any, dict[int, list[Any]]]] = {}
            width = len(self.plan.by)
            for row in rows:
                key = tuple(
                    decode(d, f"p{n}", relation, row[n], {}, session.tz) for n, d in enumerate(self.plan.by)
                )
                _, found = groups.setdefault(apart(key), (key, {}))
                found.setdefault(row[width], []).append(row[width + 1 :])
            tables = [(key, self._table(session, found)) for key, found in groups.values()]
        if not width:
            return tables[0][1] if tables else Cohorts(self.plan.granularity, [])
        tables.sort(key=lambda pair: (-sum(c.size for c in pair[1]), str(pair[0])))
        return mapping([(key[0] if width == 1 else key, table) for key, table in tables])

    def _table(self, session: Session, found: dict[int, list[Any]]) -> Cohorts:
        plan = self.plan
        starts = buckets.starts(list(found), plan.granularity, session.tz)
        made = []
        for bucket, rows in sorted(found.items(), key=lambda item: starts[item[0]]):
            size, earliest = rows[0][0], rows[0][1]
            begun = self._begun(session, starts[bucket], earliest)
            users = {period: count for _, _, period, count, _ in rows if period is not None}
            totals = {period: total for _, _, period, _, total in rows if period is not None}
            counts = [users.get(k, 0) if k < begun else None for k in range(plan.periods)]
            values = None
            if plan.value is not None:
                values = [number(totals.get(k) or 0) if k < begun else None for k in range(plan.periods)]
            made.append(
                Cohort(
                    when.bucket_datetime(starts[bucket], plan.granularity, session.tz),
                    size,
                    counts,
                    [None if count is None else count / size for count in counts],
                    values,
                )
            )
        return Cohorts(plan.granularity, made)

    def _begun(self, session: Session, start: int, earliest: int) -> int:
        """How many periods have begun by now."""
        plan = self.plan
        for k in range(plan.periods):
            if plan.rolling:
                start_k = when.shift(earliest, _times(plan.granularity, k), session.tz)
            else:
                start_k = start
                start = when.next_bucket(start, plan.granularity, session.tz)
            if start_k > session.now:
                return k
        return plan.periods

    def sql(self) -> str:
        """The SQL that answers it, with its parameters below as comments."""
        with self.store.engine.session() as session:
            statement, parameters, _ = sql.cohorts(session, self.plan)
        return shown(statement, parameters.values)


def _times(unit: str, k: int) -> when.Duration:
    months = {"month": 1, "quarter": 3, "year": 12}.get(unit)
    if months is not None:
        return when.Duration(months=k * months)
    return when.Duration(
        micros=k * when.exact({"minute": "1m", "hour": "1h", "day": "1d", "week": "1w"}[unit])
    )


def cohort(
    store: Store,
    anchor: Any,
    activity: Any,
    periods: int = 8,
    granularity: str = "week",
    min_count: int = 1,
    anchor_kind: str = "first",
) -> CohortQuery:
    """A retention table of users by when they did the anchor, over the periods after it.

    Args:
        anchor, activity: names of events, or steps with filters; activity "*" is any event.
        periods: how many periods, the cohort's own included.
        granularity: "minute" to "year": the calendar bucket of cohorts and periods.
        min_count: so many events in a period make a user active in it.
        anchor_kind: "first" (the user's first anchor event of all history) or "recurring" (a user joins
            every cohort in which she does the anchor).
    Raises:
        InvalidQuery: an unknown granularity or anchor_kind, periods or min_count below 1.
    """
    if granularity not in when.UNITS:
        raise InvalidQuery(f"granularity is one of {', '.join(when.UNITS)}, not {granularity!r}")
    for name, value, most in (("periods", periods, MOST_PERIODS), ("min_count", min_count, 10**9)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise InvalidQuery(f"{name} is a whole number from 1 to {most}, not {value!r}")
    if anchor_kind not in ("first", "recurring"):
        raise InvalidQuery(f"anchor_kind is 'first' or 'recurring', not {anchor_kind!r}")
    plan = CohortPlan(
        anchor=step_plan(store, anchor),
        activity=step_plan(store, activity),
        periods=periods,
        granularity=granularity,
        min_count=min_count,
        recurring=anchor_kind == "recurring",
    )
    return CohortQuery(store=store, plan=plan)
