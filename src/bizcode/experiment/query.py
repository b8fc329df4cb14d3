"""The question how an experiment stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import when
from ..errors import InvalidQuery
from ..plan.fields import Field
from ..plan.select import dimension
from ..query import Query
from ..query.present import Table
from . import scan
from .book import planned_end
from .daily import DailyQuery
from .judge import compare, judge
from .results import VARIANT_COLUMNS, DayResults, Results, variant_rows

if TYPE_CHECKING:
    from ..engine import Engine, Session
    from .book import Entry
    from .definition import State
    from .door import Experiments

__all__ = ["ResultsQuery"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class ResultsQuery(Query[Any]):
    """How an experiment stands; see `Experiment.results`."""

    door: Experiments
    name: str
    cuped: bool = False
    before: int | None = None
    grouping: Field | None = None
    winsorize: float | None = None

    @classmethod
    def of(cls, door: Experiments, name: str, cuped: Any, by: Any, winsorize: Any) -> ResultsQuery:
        """A question with checked options. Raises InvalidQuery, InvalidTime."""
        before = None if isinstance(cuped, bool) else when.exact(cuped)
        if winsorize is not None and (
            isinstance(winsorize, bool) or not isinstance(winsorize, float) or not 0.5 <= winsorize < 1
        ):
            raise InvalidQuery(
                f"winsorize= takes a quantile from 0.5 to below 1, like 0.99, not {winsorize!r}"
            )
        query = cls(door=door, name=name, cuped=bool(cuped), before=before, winsorize=winsorize)
        return query if by is None else query.by(by)

    def by(self, property: Any) -> ResultsQuery:
        """Results for each value of a property: a mapping, most users first."""
        found = dimension(property)
        if found.kind != "property" or found.field is None:
            raise InvalidQuery(f"results are grouped by a property of the users, not by {property!r}")
        return replace(self, grouping=found.field)

    @property
    def title(self) -> str:
        return self.name

    def _engine(self) -> Engine:
        return self.door.store.engine

    def run(self) -> Any:
        entry, state, end = self._entry()
        with self._engine().asking() as session:
            among = scan.exposed(session, self.name, end, self.grouping)
            arms = self._arms(session, entry, among, end)
        if self.grouping is None:
            return self._judged(entry, state, end, arms, None, among.multiple)
        sizes: dict[Any, int] = {}
        for (key, _, half), arm in arms.items():
            if half is None:
                sizes[key] = sizes.get(key, 0) + arm.users
        order = sorted(sizes, key=lambda key: (-sizes[key], str(key)))
        return {key: self._judged(entry, state, end, arms, key, 0) for key in order}

    def _entry(self) -> tuple[Entry, State, int]:
        entry = self.door.book.entry(self.name)
        if entry.definition.needs_goal:
            raise InvalidQuery(
                f"the goal of experiment {self.name!r} holds a function, which isn't stored: define the "
                f"experiment again in this process"
            )
        goal = entry.definition.goal
        if goal is not None and goal.kind in ("percentile", "conversion") and self.winsorize is not None:
            raise InvalidQuery(f"winsorize= is for sums, counts and averages, not for {goal.text}")
        if goal is not None and goal.kind == "percentile" and self.cuped:
            raise InvalidQuery(f"cuped= is for means and rates, not for {goal.text}")
        now = self.door.store.now()
        state = entry.now(now)
        return entry, state, now if state.ended is None else state.ended

    def _arms(self, session: Session, entry: Entry, among: scan.Exposed, end: int) -> Any:
        return scan.arms(
            session,
            entry.definition.goal,
            among,
            end,
            before=self.before,
            cuped=self.cuped,
            winsorize=self.winsorize,
        )

    def _judged(self, entry: Entry, state: State, end: int, arms: Any, key: Any, excluded: int) -> Results:
        store = self.door.store
        planned = planned_end(entry.definition, state, store.tz)
        reached = state.reason in ("duration", "min_sample_size") or (
            planned is not None and store.now() >= planned
        )
        days = 0.0 if state.started is None else max(0.0, (end - state.started) / 86_400e6)
        mine = {(variant, half): arm for (k, variant, half), arm in arms.items() if k == key}
        return judge(entry.definition, state.status, mine, days, reached, excluded, self.cuped)

    def daily(self) -> DailyQuery:
        """Cumulative results at the end of each day, for p-values and lifts over time. `p_sequential` is the
        smallest so far: once below 0.05, it stays."""
        if self.grouping is not None or self.cuped or self.winsorize is not None:
            raise InvalidQuery("daily() takes no by, cuped and winsorize")
        return DailyQuery(self._daily, self.name, self._engine())

    def _daily(self) -> list[DayResults]:
        entry, state, end = self._entry()
        definition, tz = entry.definition, self.door.store.tz
        if state.started is None:
            return []
        with self._engine().asking() as session:
            among = scan.exposed(session, self.name, end, None)
            low = state.started if among.low is None else min(state.started, among.low)
            starts = when.buckets(low, end + 1, "day", tz)
            goal = definition.goal
            if goal is None or goal.kind == "percentile":
                days = []
                for start in starts:
                    last = min(end, when.next_bucket(start, "day", tz) - 1)
                    seen = scan.exposed(session, self.name, last, None)
                    found = scan.arms(session, goal, seen, last)
                    days.append({variant: arm for (_, variant, _), arm in found.items()})
            else:
                days = scan.daily_arms(session, goal, among, end, starts)
        results = []
        least: dict[str, float] = {}
        for start, arms in zip(starts, days, strict=True):
            variants = compare(definition, arms, cuped=False)
            for name, found in variants.items():
                if found.p_sequential is not None:
                    least[name] = min(found.p_sequential, least.get(name, 1.0))
                if name in least:
                    variants[name] = replace(found, p_sequential=least[name])
            results.append(DayResults(when.bucket_datetime(start, "day", tz), variants))
        return results

    def table(self) -> Any:
        """One row for each variant; of groups, for each group and variant."""
        found = self.run()
        if isinstance(found, Results):
            return Table(("variant", *VARIANT_COLUMNS), variant_rows(found.variants))
        rows = [(key, *row) for key, result in found.items() for row in variant_rows(result.variants)]
        return Table((str(self.grouping), "variant", *VARIANT_COLUMNS), rows)

    def plot(self) -> Any:
        """The interval of each lift; of groups, in each of them. Needs `pip install bizcode[plot]`."""
        from ..query.plot import lifts

        found = self.run()
        return found.plot() if isinstance(found, Results) else lifts(found, self.name)

    def shown(self) -> str:
        found = self.run()
        if isinstance(found, Results):
            return repr(found)
        return "\n\n".join(f"{key!r}:\n{result!r}" for key, result in found.items())

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"
