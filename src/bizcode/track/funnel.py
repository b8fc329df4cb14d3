"""`biz.track.funnel([...])`: how far users get, and where they stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine import buckets
from ..engine import funnel as sql
from ..engine.aggregate import decode
from ..engine.groups import mapping
from ..errors import InvalidQuery
from ..plan.condition import And, conditions
from ..plan.fields import as_field
from ..plan.funnel import Exclusion, FunnelPlan
from ..plan.select import dimension
from ..plan.sql import Parameters
from ..query.aggregate import shown
from ..query.base import Query
from .step import step_plan

if TYPE_CHECKING:
    from ..engine import Engine, Session
    from ..store import Store

__all__ = ["Funnel", "FunnelQuery", "FunnelStep", "UsersQuery", "funnel"]

MOST_STEPS = 50


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step: how many users reached it, how many may still, and how long it took from the step before.

    `rate` is of the users at the step before (optional steps are passed over), `total_rate` of those at step 1.
    """

    name: str
    count: int
    in_progress: int
    rate: float
    total_rate: float
    avg_time: timedelta | None
    median_time: timedelta | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps, the share of step 1's users who reached the last one, and what looks wrong."""

    steps: list[FunnelStep]
    conversion: float
    warnings: list[str]

    def __iter__(self) -> Iterator[FunnelStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, n: int) -> FunnelStep:
        return self.steps[n]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class FunnelQuery(Query[Any]):
    """A funnel. The result is a Funnel, or an ordered mapping of them where it is split by something."""

    store: Store
    plan: FunnelPlan

    @property
    def title(self) -> str:
        return "funnel"

    def _engine(self) -> Engine:
        return self.store.engine

    def _plan(self, **changes: Any) -> FunnelQuery:
        return replace(self, plan=replace(self.plan, **changes))

    def within(self, window: Any) -> FunnelQuery:
        """All steps within this time from step 1, its end included. Raises InvalidTime, also for zero."""
        return self._plan(window=when.exact(window))

    def ordered(self) -> FunnelQuery:
        """The steps in this order, others may come between. The default."""
        return self._plan(order="ordered")

    def strict(self) -> FunnelQuery:
        """The steps in this order, no other tracked event of the user between them, whatever it holds."""
        return self._checked(order="strict")

    def unordered(self) -> FunnelQuery:
        """The steps in any order."""
        return self._checked(order="unordered")

    def _checked(self, **changes: Any) -> FunnelQuery:
        made = self._plan(**changes)
        plan = made.plan
        if plan.order != "ordered" and any(step.optional for step in plan.steps):
            raise InvalidQuery(f"optional steps need the ordered funnel, not the {plan.order} one")
        if plan.order != "ordered" and plan.exclusions:
            raise InvalidQuery(f"exclude() needs the ordered funnel, not the {plan.order} one")
        return made

    def since(self, start: Any) -> FunnelQuery:
        """Step 1 from then on. Raises InvalidTime."""
        self._range(when.given(start), self.plan.until)
        return self._plan(since=start)

    def until(self, end: Any) -> FunnelQuery:
        """Step 1 before then. Raises InvalidTime."""
        self._range(self.plan.since, when.given(end))
        return self._plan(until=end)

    def between(self, start: Any, end: Any) -> FunnelQuery:
        """Step 1 in [start, end). Raises InvalidTime."""
        self._range(when.given(start), when.given(end))
        return self._plan(since=start, until=end)

    def _range(self, start: Any, end: Any) -> None:
        when.resolve_range(start, end, self.store.now(), self.store.tz)

    def where(self, *given: Any, **properties: Any) -> FunnelQuery:
        """Only events that meet the conditions, in every step."""
        condition = conditions(given, properties, self.store.tz)
        return self._plan(where=And((self.plan.where, condition)))

    def by(self, *dimensions: Any, attribution: Any = None) -> FunnelQuery:
        """Split by a property's value at step 1 of the counted attempt, or by the time bucket of that step.

        Args:
            dimensions: as in `count().by(...)`.
            attribution: "first" (the value at step 1, the default), "last" (at the last step reached), or a
                step's number (None for users who don't reach it). It holds for all dimensions.
        """
        if not dimensions:
            raise InvalidQuery("by() takes at least one property or time bucket")
        count = len(self.plan.steps)
        attribution = self.plan.attribution if attribution is None else attribution
        whole = isinstance(attribution, int) and not isinstance(attribution, bool)
        if attribution not in ("first", "last") and not (whole and 1 <= attribution <= count):
            raise InvalidQuery(
                f"attribution is 'first', 'last' or a step from 1 to {count}, not {attribution!r}"
            )
        found = (*self.plan.by, *map(dimension, dimensions))
        if sum(1 for d in found if d.kind == "bucket") > 1:
            raise InvalidQuery("by() takes one time bucket")
        return self._plan(by=found, attribution="first" if attribution == 1 else attribution)

    def exclude(self, event: Any, after: int = 1, before: int | None = None) -> FunnelQuery:
        """An attempt ends before this event if it comes between those steps, counted from 1."""
        count = len(self.plan.steps)
        before = count if before is None else before
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (after, before))
        if not whole or not 1 <= after < before <= count:
            raise InvalidQuery(
                f"exclude() stands between two steps of 1 to {count}, not after {after!r} before {before!r}"
            )
        exclusion = Exclusion(step_plan(self.store, event), after, before)
        return self._checked(exclusions=(*self.plan.exclusions, exclusion))

    def hold(self, *properties: Any) -> FunnelQuery:
        """All steps share these properties' values; events without them don't count."""
        if not properties:
            raise InvalidQuery("hold() takes the name of a property that all steps share")
        return self._plan(hold=(*self.plan.hold, *map(as_field, properties)))

    def users(self, step: int = 1) -> UsersQuery:
        """The users who got to a step, counted from 1; as many as its count."""
        return self._users("users", step)

    def dropped(self, step: int = 2) -> UsersQuery:
        """The users who reached step 1 but not this one, without those who are in progress to it."""
        return self._users("dropped", step)

    def in_progress(self, step: int = 2) -> UsersQuery:
        """The users who reached the step before but not this one, while the window is still open."""
        return self._users("in_progress", step)

    def _users(self, which: str, step: Any) -> UsersQuery:
        count = len(self.plan.steps)
        if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= count:
            raise InvalidQuery(f"the funnel has steps 1 to {count}, not {step!r}")
        return UsersQuery(store=self.store, plan=replace(self.plan, by=()), which=which, step=step)

    def run(self) -> Any:
        with self.store.engine.asking() as session:
            parameters = Parameters()
            found = sql.Rows(session, self.plan, parameters)
            found.materialize(parameters, named=False)
            statement, parameters, relation = self._statement(session, parameters, found)
            rows = session.fetch(statement, parameters)
            warnings = self._warnings(session)
            if not self.plan.by:
                return self._funnel(rows[0] if rows else None, warnings)
            return self._split(session, relation, rows, warnings)

    def _statement(
        self, session: Session, parameters: Parameters, rows: sql.Rows | None = None
    ) -> tuple[str, Parameters, Any]:
        inner, relation = sql.attempts(session, self.plan, parameters, rows)
        groups = [f"g{n}" for n in range(len(self.plan.by))]
        parts = [*groups]
        for n in range(1, len(self.plan.steps) + 1):
            parts.append(f"count(*) FILTER (WHERE r{n})")
            parts.append(f"count(*) FILTER (WHERE {_open(self.plan, n, session.now)})" if n > 1 else "0")
            if n > 1:
                since = f"CAST(t{n} - {_before(self.plan, n)} AS DOUBLE)"
                since = f"abs({since})" if self.plan.order == "unordered" else since
                parts += [f"{function}({since}) FILTER (WHERE r{n})" for function in ("avg", "median")]
            else:
                parts += ["NULL", "NULL"]
        statement = f"SELECT {', '.join(parts)} FROM ({inner})"
        if groups:
            statement += f" GROUP BY {', '.join(groups)}"
        return statement, parameters, relation

    def sql(self) -> str:
        """The SQL that answers it, with its parameters below as comments."""
        with self.store.engine.session() as session:
            statement, parameters, _ = self._statement(session, Parameters())
        return shown(statement, parameters.values)

    def _warnings(self, session: Session) -> list[str]:
        if self.plan.order != "ordered":
            return []
        found = []
        for first, both, other_way in sql.reversed_steps(session, self.plan):
            if both and other_way * 2 > both:
                one, other = (self.plan.steps[first - 1].title, self.plan.steps[first].title)
                found.append(
                    f"most users do {other!r} (step {first + 1}) before {one!r} (step {first}): "
                    f"{other_way} of the {both} who did both; are the steps the wrong way round?"
                )
        return found

    def _funnel(self, row: Sequence[Any] | None, warnings: list[str]) -> Funnel:
        steps: list[FunnelStep] = []
        first = row[0] if row else 0
        previous = 0
        for n, step in enumerate(self.plan.steps):
            count, waiting, average, median = row[4 * n : 4 * n + 4] if row else (0, 0, None, None)
            base = first if n == 0 else previous
            steps.append(
                FunnelStep(
                    step.title,
                    count,
                    waiting,
                    count / base if base else 0.0,
                    count / first if first else 0.0,
                    _elapsed(average),
                    _elapsed(median),
                )
            )
            if not step.optional:
                previous = count
        return Funnel(steps, steps[-1].total_rate, warnings)

    def _split(
        self, session: Session, relation: Any, rows: list[Any], warnings: list[str]
    ) -> dict[Any, Funnel]:
        by = self.plan.by
        at = next((n for n, d in enumerate(by) if d.kind == "bucket"), None)
        starts = {} if at is None else buckets.starts([r[at] for r in rows], by[at].name, session.tz)
        found = []
        for row in rows:
            key = tuple(decode(d, f"p{n}", relation, row[n], starts, session.tz) for n, d in enumerate(by))
            found.append((key, self._funnel(row[len(by) :], warnings)))
        if at is None:
            found.sort(key=lambda pair: (-pair[1].steps[0].count, str(pair[0])))
        else:
            found.sort(key=lambda pair: (pair[0][at], -pair[1].steps[0].count, str(pair[0])))
        return mapping([(key[0] if len(by) == 1 else key, value) for key, value in found])


def _open(plan: FunnelPlan, n: int, now: int) -> str:
    """SQL: reached the step before, not this one, and the window is still open."""
    if plan.window is None:
        return "FALSE"
    before = next(m for m in range(n - 1, 0, -1) if m == 1 or not plan.steps[m - 1].optional)
    later = [f"r{m}" for m in range(n + 1, len(plan.steps) + 1) if plan.steps[n - 1].optional]
    passed = f" AND NOT ({' OR '.join(later)})" if later else ""
    return f"r{before} AND NOT r{n} AND t1 + {plan.window} >= {now}{passed}"


def _before(plan: FunnelPlan, n: int) -> str:
    """SQL: the time of the last step taken before this one."""
    found = []
    for m in range(n - 1, 0, -1):
        found.append(f"CASE WHEN r{m} THEN t{m} END" if plan.steps[m - 1].optional else f"t{m}")
        if not plan.steps[m - 1].optional:
            break
    return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"


def _elapsed(micros: float | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=round(micros))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class UsersQuery(Query[list[str]]):
    """Users of a funnel, in alphabetical order. Iterating streams them."""

    store: Store
    plan: FunnelPlan
    which: str
    step: int
    rows_limit: int | None = None

    @property
    def title(self) -> str:
        return "user"

    def _engine(self) -> Engine:
        return self.store.engine

    def limit(self, n: int) -> UsersQuery:
        """At most n users."""
        from ..query.selection import check_count

        return replace(self, rows_limit=check_count(n, "limit"))

    def _statement(
        self, session: Session, *, kept: bool = True, named: bool = True
    ) -> tuple[str, Parameters]:
        parameters = Parameters()
        rows = sql.Rows(session, self.plan, parameters)
        if kept:
            rows.materialize(parameters, named=named)
        inner, _ = sql.attempts(session, self.plan, parameters, rows)
        waiting = "FALSE" if self.step == 1 else _open(self.plan, self.step, session.now)
        where = {
            "users": f"r{self.step}",
            "in_progress": waiting,
            "dropped": f"r1 AND NOT r{self.step} AND NOT ({waiting})",
        }[self.which]
        return f"SELECT u FROM ({inner}) WHERE {where}", parameters

    def sql(self) -> str:
        """The SQL that lists them."""
        with self.store.engine.session() as session:
            statement, parameters = self._statement(session, kept=False)
        return shown(self._ordered(statement), parameters.values)

    def _ordered(self, statement: str) -> str:
        limit = "" if self.rows_limit is None else f" LIMIT {self.rows_limit}"
        return f"{statement} ORDER BY u{limit}"

    def __iter__(self) -> Iterator[str]:
        with self.store.engine.asking() as session:
            statement, parameters = self._statement(session)
            for rows in session.batches(self._ordered(statement), parameters):
                for row in rows:
                    yield row[0]

    def __len__(self) -> int:
        with self.store.engine.asking() as session:
            statement, parameters = self._statement(session, named=False)
            count = session.fetch(f"SELECT count(*) FROM ({statement})", parameters)[0][0]
        return count if self.rows_limit is None else min(count, self.rows_limit)

    def run(self) -> list[str]:
        return [*iter(self)]


def funnel(store: Store, steps: Any) -> FunnelQuery:
    """A funnel over steps. Raises InvalidQuery for none, more than 50, or a first or last one that is optional."""
    if isinstance(steps, (str, bytes)) or not hasattr(steps, "__iter__"):
        raise InvalidQuery("funnel() takes a list of steps: names of events or biz.step(name)")
    plans = tuple(step_plan(store, given, optional=True) for given in steps)
    if not plans:
        raise InvalidQuery("a funnel needs at least one step")
    if len(plans) > MOST_STEPS:
        raise InvalidQuery(f"a funnel has at most {MOST_STEPS} steps, not {len(plans)}")
    if plans[0].optional:
        raise InvalidQuery("a funnel's first step can't be optional: it starts the attempt")
    return FunnelQuery(store=store, plan=FunnelPlan(steps=plans))
