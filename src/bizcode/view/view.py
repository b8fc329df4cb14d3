"""One view: read it, subscribe to it, refresh it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import when
from ..consume import Subscription
from ..errors import InvalidQuery
from ..plan.condition import TRUE, And, Condition, conditions
from ..query import Lazy
from ..query.base import Query
from ..query.selection import check_count
from ..record import Row
from .changes import Changes, ViewChange
from .definition import Named, ordering
from .order import arranged

if TYPE_CHECKING:
    from ..engine import Engine
    from .door import Views

__all__ = ["ViewDoor", "ViewInfo", "ViewQuery"]


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """What is known of a view."""

    name: str
    rows: int
    bytes: int
    position: int
    lag: int
    definition: str
    refreshed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class ViewQuery(Query[list[Row]]):
    """A view's rows, filtered, ordered and paged."""

    views: Views
    name: str
    condition: Condition = TRUE
    order: tuple[tuple[str, bool], ...] | None = None
    rows_limit: int | None = None
    rows_offset: int = 0
    staleness: int = 0

    @property
    def title(self) -> str:
        return self.name

    @property
    def is_filter(self) -> bool:
        """Whether it only leaves rows out."""
        return self.order is None and self.rows_limit is None and not self.rows_offset

    def _engine(self) -> Engine:
        return self.views._store.engine

    def where(self, *given: Any, **properties: Any) -> ViewQuery:
        """Only rows that meet the conditions."""
        more = conditions(given, properties, self.views._store.tz)
        return replace(self, condition=And((self.condition, more)))

    def order_by(self, *given: Any, **ways: str) -> ViewQuery:
        """In this order: "total_spent", "-total_spent", {"total_spent": "desc"}, total_spent="desc"."""
        pairs = tuple(pair for one in (*given, *([ways] if ways else [])) for pair in ordering(one))
        return replace(self, order=pairs)

    def limit(self, n: int) -> ViewQuery:
        """At most n rows."""
        return replace(self, rows_limit=check_count(n, "limit"))

    def offset(self, n: int) -> ViewQuery:
        """Leave out the first n."""
        return replace(self, rows_offset=check_count(n, "offset"))

    def get(self, *, max_staleness: Any = None) -> ViewQuery:
        """The question itself, ready to run."""
        return self if max_staleness is None else replace(self, staleness=when.exact(max_staleness))

    def count(self) -> Lazy[int]:
        """How many rows."""
        return Lazy(lambda: len(self.run()), "count")

    def run(self) -> list[Row]:
        rows = [
            row for row in self.views._top(self.name, self.staleness).values() if self.condition.matches(row)
        ]
        order = self.order if self.order is not None else ()
        self.views._definition(self.name).check_fields((field for field, _ in order), "order_by()")
        return arranged(rows, order, self.rows_limit, self.rows_offset)


class ViewDoor(Named):
    """`biz.view.leaderboard`."""

    def __init__(self, views: Views, name: str) -> None:
        self._views = views
        self.name = name

    def _query(self) -> ViewQuery:
        return ViewQuery(views=self._views, name=self.name)

    def get(self, key: Any = ..., *, max_staleness: Any = None) -> Any:
        """All rows, or with a key that group's row (None if there is none).

        Args:
            key: the group's value; a tuple where it is grouped by several.
            max_staleness: a duration by which the answer may be older than the log.
        Raises when run:
            NotFound: no such view. InvalidQuery: a key with another number of parts.
        """
        if key is ...:
            return self._query().get(max_staleness=max_staleness)
        staleness = 0 if max_staleness is None else when.exact(max_staleness)
        return Lazy(lambda: self._views._row(self.name, key, staleness), self.name, self._views._store.engine)

    def where(self, *given: Any, **properties: Any) -> ViewQuery:
        """Only rows that meet the conditions; `.get()` follows."""
        return self._query().where(*given, **properties)

    def order_by(self, *given: Any, **ways: str) -> ViewQuery:
        """In this order; `.get()` follows."""
        return self._query().order_by(*given, **ways)

    def limit(self, n: int) -> ViewQuery:
        """At most n rows; `.get()` follows."""
        return self._query().limit(n)

    def offset(self, n: int) -> ViewQuery:
        """Leave out the first n rows; `.get()` follows."""
        return self._query().offset(n)

    def subscribe(
        self,
        fn: Callable[[list[ViewChange]], Any] | None = None,
        *,
        on_insert: Callable[[Row], Any] | None = None,
        on_update: Callable[[Row, Row], Any] | None = None,
        on_delete: Callable[[Row], Any] | None = None,
        where: Any = None,
        initial: bool = False,
    ) -> Subscription:
        """Be told when rows change: one notification per row and batch. Entering and leaving the limit are insert
        and delete.

        Args:
            fn: gets the list of changes.
            on_insert, on_update, on_delete: get the row, (before, after), the row.
            where: only rows that meet these conditions.
            initial: begin with the present rows, as inserts.
        """
        given = {"fn": fn, "on_insert": on_insert, "on_update": on_update, "on_delete": on_delete}
        given = {name: function for name, function in given.items() if function is not None}
        if not given or not all(map(callable, given.values())):
            raise InvalidQuery(
                "subscribe() takes a function, or functions as on_insert=, on_update=, on_delete="
            )
        condition = TRUE if where is None else conditions([where], {}, self._views._store.tz)
        id = f"view:{self.name}:{uuid.uuid4().hex[:12]}"
        watcher = Changes(self._views, self.name, id, condition, given, initial)
        consumers = self._views._store.consumers
        consumers.tickers(watcher)
        return Subscription(id, lambda: consumers.remove_ticker(id))

    def refresh(self, *, incremental: bool = False, since: Any = None) -> None:
        """Compute it anew.

        Args:
            incremental: only bring it up to date with what came since it was looked at last, which every
                `get` does too.
            since: with incremental, the earliest that anything may have changed; a view knows that better itself.
        Raises:
            NotFound, InvalidTime. InvalidQuery: since without incremental.
        """
        if since is not None and not incremental:
            raise InvalidQuery(
                "refresh(since=...) goes with incremental=True: a full refresh reads everything"
            )
        if since is not None:
            self._views._store.engine.range_start(since)
        self._views._compute(self.name, incremental)

    def info(self) -> Lazy[ViewInfo]:
        """Rows, bytes, position, lag and definition."""
        return Lazy(lambda: self._views._info(self.name), self.name)

    def update(self, **changes: Any) -> ViewDoor:
        """Change its definition and compute it anew."""
        self._views._update(self.name, changes)
        return self

    def drop(self) -> None:
        """Remove it. Raises NotFound."""
        self._views._drop(self.name)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._query().run())

    def __repr__(self) -> str:
        return f"biz.view.{self.name}"
