"""One metric: record a sample, ask for its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from .. import values, when
from ..alert import Alert, define
from ..errors import Conflict, InvalidValue
from ..plan.condition import conditions
from ..plan.select import Select
from ..query import AggregateQuery, EventsQuery, Lazy
from ..query.numbers import Numbers, check_percentile
from ..query.reach import Reach, reach
from ..query.schema import Schema, schema
from ..query.selection import Selection
from ..record import MEASURE
from ..writer import properties
from .trend import AnomaliesQuery, TrendQuery
from .window import Window, make

if TYPE_CHECKING:
    from ..engine import Engine
    from ..store import Store

__all__ = ["COUNTER", "GAUGE", "MetricDoor", "MetricSelection"]

GAUGE = "gauge"
COUNTER = "counter"


def metric_kind(store: Store, name: str) -> str | None:
    """How a metric is used: "gauge", "counter", or None for plain samples. State space "metric"."""
    unit = store.unit()
    kept = store.log.cached("metric").get(name) if unit is None else unit.peek("metric", name)
    return None if kept is None else kept.decode()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricSelection(Selection, Numbers):
    """Some of a metric's samples: ask for a number."""

    store: Store
    select: Select
    name: str

    @property
    def engine(self) -> Engine:
        return self.store.engine

    def _with(self, select: Select) -> Self:
        return MetricSelection(store=self.store, select=select, name=self.name)  # type: ignore[return-value]

    def sum(self) -> AggregateQuery:
        """The sum of the samples; 0 if there is none."""
        return self._number("sum")

    def avg(self) -> AggregateQuery:
        """The mean of the samples; None if there is none."""
        return self._number("avg")

    def min(self) -> AggregateQuery:
        """The smallest sample; None if there is none."""
        return self._number("min")

    def max(self) -> AggregateQuery:
        """The largest sample; None if there is none."""
        return self._number("max")

    def median(self) -> AggregateQuery:
        """The median, interpolated linearly; None if there is none."""
        return self._number("median")

    def percentile(self, p: float) -> AggregateQuery:
        """The p-th percentile (0 to 100), interpolated linearly; None if there is none."""
        return self._number("percentile", None, check_percentile(p))

    def stddev(self) -> AggregateQuery:
        """The sample's standard deviation (n - 1); None for fewer than two samples."""
        return self._number("stddev")

    def first(self) -> AggregateQuery:
        """The earliest sample by timestamp, ties by position; None if there is none."""
        return self._number("first")

    def last(self) -> AggregateQuery:
        """The latest sample by timestamp, ties by position; None if there is none."""
        return self._number("last")

    def current(self, **tags: Any) -> AggregateQuery:
        """The latest value, None if there is none; of a counter its total.

        Args:
            tags: only samples with these tags, as in `where`.
        """
        selection = self.where(**tags) if tags else self
        operation = "sum" if metric_kind(self.store, self.name) == COUNTER else "current"
        return selection._number(operation)

    def rate(self, unit: Any = "1m") -> AggregateQuery:
        """Per unit of time of the range: the increments of a counter, else the number of samples.

        Args:
            unit: a duration without months, "1m" or "1h".
        """
        counter = metric_kind(self.store, self.name) == COUNTER
        return self._number("rate", None, (when.exact(unit), counter))

    def reach(self, target: float, direction: str = "above") -> Reach:
        """A target for a goal: the metric's current value at or above (or at or below) `target`."""
        return reach(self.current(), target, direction)

    def alert(self, **options: Any) -> Alert:
        """Be told when a condition on the metric's samples holds; see `bizcode.alert.define`.

        Args:
            name: what it is kept under.
            condition: a function of the value, or an expression (`this.value > 90`); or above=, below=: a limit.
            for_: how long it must hold. by: tags, each set of which is watched on its own.
            notify: called once per incident with an AlertEvent; resolve: when it is over.
            every: tell again each so long. absent: fire on so long a silence.
            resolve_below, resolve_above: it is over only beyond this. keep_firing_for: and so long after.
            min_samples: so many samples in the time looked at.
        """
        return define(self.store, self.store.alerts, self.select, metric=self.name, **options)

    def trend(self) -> TrendQuery:
        """Where the metric is going: slope per day, direction, r2 and the slope's p-value."""
        return TrendQuery(engine=self.store.engine, select=self.select)

    def anomalies(self) -> AnomaliesQuery:
        """The days whose value (a counter's increments, else the mean) stands out from trend and season;
        `.by("hour")` looks at hours."""
        counter = metric_kind(self.store, self.name) == COUNTER
        return AnomaliesQuery(
            engine=self.store.engine, select=self.select, operation="sum" if counter else "avg"
        )

    def window(self, size: Any, slide: Any = None, by: Any = None) -> Window:
        """Statistics each so long: `window("5m").subscribe(fn)`; with slide, overlapping.

        Args:
            size, slide: durations without months; the slide no longer than the size.
            by: tags; then one row per set of them.
        """
        return make(self.store, self.select, size, slide, by)

    def unique(self, tag: Any = None) -> AggregateQuery:
        """Distinct users (merged ids are one), or distinct values of a tag; 0 if there is none."""
        return self._number("unique", tag)

    def events(self) -> EventsQuery:
        """The samples themselves, newest first."""
        return EventsQuery(engine=self.store.engine, select=self.select)

    def subscribe(self, fn: Any, where: Any = None, name: str | None = None, since: Any = None) -> Any:
        """Call fn(sample) after the commit of each one from now on, by any process; see track's subscribe."""
        return self.store.consumers.subscribe(self.select, fn, where=where, name=name, since=since)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MetricDoor(MetricSelection):
    """`biz.measure.revenue`: call it to record a sample, or ask for its numbers."""

    def __call__(self, value: Any, /, *given: Any, **keywords: Any) -> Any:
        """Record one sample; committed when it returns.

        Args:
            value: an int, float or Decimal.
            given: nothing, or one mapping of tags; keywords are then options: `at`, `id`, `user`.
            keywords: the tags, where no mapping is given.
        Returns:
            the stored Measurement.
        Raises:
            InvalidValue: a bool, NaN, infinity or text; a tag that can't be stored. InvalidTime.
        """
        return self._record(value, given, keywords)

    @property
    def kind(self) -> str | None:
        """How the metric is used: "gauge", "counter", or None for plain samples."""
        return metric_kind(self.store, self.name)

    def set(self, value: Any, /, *given: Any, **keywords: Any) -> Any:
        """Record a gauge's value. Raises Conflict if the metric is a counter."""
        number = values.number(value, self.name)
        self._use(GAUGE)
        return self._record(number, given, keywords)

    def increment(self, by: Any = 1, /, *given: Any, **keywords: Any) -> Any:
        """Count. Raises InvalidValue for a negative step, Conflict if the metric is a gauge."""
        number = values.number(by, self.name)
        if number < 0:
            raise InvalidValue(
                f"{self.name}: a counter only goes up, {by!r} is negative: use a gauge, .set()"
            )
        self._use(COUNTER)
        return self._record(number, given, keywords)

    def _record(self, value: Any, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        number = values.number(value, self.name)
        data, options = properties(self.name, given, keywords, _OPTIONS)
        writer = self.store.writer
        draft, plain = writer.draft(MEASURE, self.name, data, value=number, **options)
        return writer.write(draft, plain)

    def _use(self, kind: str) -> None:
        if metric_kind(self.store, self.name) == kind:
            return

        def check(holder: Any) -> None:
            kept = holder.get("metric", self.name)
            if kept is not None and kept.decode() != kind:
                raise Conflict(
                    f"{self.name} is used as a {kept.decode()}, it can't be used as a {kind}: choose another name"
                )

        unit = self.store.unit()
        if unit is None:
            with self.store.log.transaction() as tx:
                check(tx)
                tx.put("metric", self.name, kind.encode())
            return
        if metric_kind(self.store, self.name) is not None:
            check(unit)
        unit.check(("metric", self.name), check)
        unit.put("metric", self.name, kind.encode())

    def rollup(
        self,
        granularity: Any = None,
        aggregates: Any = ("sum", "count", "avg", "min", "max"),
        retention: Any = None,
        *,
        tags: Any = None,
        from_: str | None = None,
        to: str | None = None,
    ) -> Any:
        """Keep the metric's numbers by buckets of the calendar, and forget what is older than it need be.

        Queries then choose by themselves: the coarsest rollup that answers exactly, the samples where none does,
        and past the samples' retention the rollup. It is filled from all history, kept up to date by the worker
        or `drain()`, and durable: any program that opens the store keeps it up.

        Args:
            granularity: of "minute" "hour" "day" "week" "month" "quarter" "year".
            aggregates: of "sum" "count" "avg" "min" "max" "percentiles" "last". The count is always kept.
                Percentiles are a sketch with a relative error of at most 1 %.
            retention: how long what is kept, like {"raw": "7d", "hour": "90d"}; what is not named is kept for
                ever. A bucket's samples are deleted once all of it has passed.
            tags: only these tags are told apart; default all but those that name a user.
            from_, to: roll one granularity up from a finer one by hand, after catching up; `to` is kept from
                then on. From one that is not kept: what is kept is brought up to date from the samples.
        Returns:
            the Rollup, or with from_ and to how many cells were written.
        Raises:
            InvalidQuery: unknown granularities or aggregates, a retention shorter than its granularity.
            InvalidTime: a retention that is no duration. AlreadyExists: the metric has another rollup.
            NotFound: without any option, or by hand, and there is no rollup.
        """
        from .rollup import by_hand, define, known

        if from_ is not None or to is not None:
            return by_hand(self.store, self.name, from_, to)
        if granularity is None:
            return known(self.store, self.name)
        return define(self.store, self.name, granularity, aggregates, retention, tags)

    def where(self, *conditions_: Any, **tags: Any) -> MetricSelection:  # type: ignore[override]
        """Only samples that meet the conditions; see `Selection.where`."""
        found = conditions(conditions_, tags, self.store.tz)
        return self._with(self.select.and_where(found))

    def schema(self) -> Lazy[Schema]:
        """The tags seen, with their types, when first and last."""
        return Lazy(lambda: schema(self.store.engine, MEASURE, self.name), "schema", self.store.engine)

    def __repr__(self) -> str:
        return f"biz.measure[{self.name!r}]"


_OPTIONS = frozenset(("at", "id", "user"))
