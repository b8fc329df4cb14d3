"""One kind of event, or all of them: record it, ask about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ..plan.select import Select
from ..query import AggregateQuery, EventsQuery, Lazy
from ..query.numbers import Numbers, check_percentile, needed
from ..query.schema import Schema, schema
from ..query.selection import Selection
from ..record import EVENT
from ..writer import properties

if TYPE_CHECKING:
    from ..engine import Engine
    from ..store import Store

__all__ = ["EventDoor", "EventSelection"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventSelection(Selection, Numbers):
    """Some of the tracked events: ask for a number or for the events themselves."""

    store: Store
    select: Select

    @property
    def engine(self) -> Engine:
        return self.store.engine

    def _with(self, select: Select) -> Self:
        return EventSelection(store=self.store, select=select)  # type: ignore[return-value]

    def sum(self, property: Any = None) -> AggregateQuery:
        """The sum of a property over the events where it is a number; 0 if there is none."""
        return self._number("sum", needed(property, "sum"))

    def avg(self, property: Any = None) -> AggregateQuery:
        """The mean of a property; None if there is none."""
        return self._number("avg", needed(property, "avg"))

    def min(self, property: Any = None) -> AggregateQuery:
        """The smallest value of a property (of texts, where no event has a number); None if there is none."""
        return self._number("min", needed(property, "min"))

    def max(self, property: Any = None) -> AggregateQuery:
        """The largest value of a property (of texts, where no event has a number); None if there is none."""
        return self._number("max", needed(property, "max"))

    def median(self, property: Any = None) -> AggregateQuery:
        """The median, interpolated linearly; None if there is none."""
        return self._number("median", needed(property, "median"))

    def percentile(self, p: float, property: Any = None) -> AggregateQuery:
        """The p-th percentile (0 to 100), interpolated linearly; None if there is none."""
        return self._number("percentile", needed(property, "percentile"), check_percentile(p))

    def stddev(self, property: Any = None) -> AggregateQuery:
        """The sample's standard deviation (n - 1); None for fewer than two values."""
        return self._number("stddev", needed(property, "stddev"))

    def unique(self, property: Any = None) -> AggregateQuery:
        """Distinct users (merged ids are one), or distinct values of a property; 0 if there is none."""
        return self._number("unique", property)

    def events(self) -> EventsQuery:
        """The events, newest first. Iterating streams them: a million need no memory."""
        return EventsQuery(engine=self.store.engine, select=self.select)

    def subscribe(self, fn: Any, where: Any = None, name: str | None = None, since: Any = None) -> Any:
        """Call fn(event) after the commit of each one from now on, by any process.

        Args:
            fn: a function or coroutine function of the event.
            where: conditions as in `where(...)`: a mapping, an expression or a function.
            name: makes it durable: it goes on where it was after a restart.
            since: "start" or an instant to begin earlier.
        Returns:
            a Subscription(id, unsubscribe()).
        Raises:
            InvalidQuery: the selection has a range.
        """
        return self.store.consumers.subscribe(self.select, fn, where=where, name=name, since=since)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class EventDoor(EventSelection):
    """`biz.track.Signup`: call it to record one, or ask about all of them."""

    name: str

    def __call__(self, *given: Any, **keywords: Any) -> Any:
        """Record one event; committed when it returns.

        Args:
            given: nothing, or one mapping (or record) of properties; keywords are then options:
                `at` (when it happened), `id` (idempotency: the same id stores nothing again), `user`,
                `experiment`, `variant`.
            keywords: the properties, where no mapping is given.
        Returns:
            the stored Event.
        Raises:
            InvalidValue: a value that can't be stored, named by its path. InvalidTime. NotFound: no such
            experiment. QuotaExceeded. StorageError.
        """
        data, options = properties(self.name, given, keywords) if given else (keywords, _NONE)
        writer = self.store.writer
        draft, plain = writer.draft(EVENT, self.name, data, **options)
        return writer.write(draft, plain)

    def schema(self) -> Lazy[Schema]:
        """The properties seen, with their types, when first and last, and the versions of the shape."""
        return Lazy(lambda: schema(self.store.engine, EVENT, self.name), "schema", self.store.engine)

    def __repr__(self) -> str:
        return f"biz.track[{self.name!r}]"

    def _named(self, **changes: Any) -> EventDoor:
        return replace(self, **changes)


_NONE: dict[str, Any] = {}
