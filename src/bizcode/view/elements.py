"""Views of what isn't a selection of records: a stream's elements, another view's rows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine.identity import Identity
from ..plan.accumulator import Accumulator
from ..plan.aggregation import value_of
from ..plan.condition import TRUE
from ..plan.fields import MISSING, read
from ..plan.removing import removable
from ..record import Record, Row
from .definition import Definition
from .grouped import own_of
from .groups import Groups
from .order import Key, sort_key
from .reading import part_of
from .table import Table, Watch

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Elements", "OfElements", "OfRows"]

_UTC = when.zone("UTC")


class Elements:
    """What one element gives to a view.

    Args:
        user: the name under which an id counts.
    """

    def __init__(self, definition: Definition, user: Callable[[str], str]) -> None:
        self._where = None if definition.where == TRUE else definition.where
        self._user = user
        self._keys = [(name, definition.field_of(name)) for name in definition.group_by]
        self._user_at = definition.user_at
        self.folds = [removable(made) for made in definition.compute.values()]

    def read(self, element: Any, time: int) -> tuple[Key, tuple[Any, ...]] | None:
        """(place, values) of an element; None where the conditions leave it out."""
        if self._where is not None and not self._where.matches(element):
            return None
        place = tuple(
            self._part(element, name, field, n == self._user_at) for n, (name, field) in enumerate(self._keys)
        )
        return place, tuple(self._value(fold, element, time) for fold in self.folds)

    def _value(self, fold: Accumulator, element: Any, time: int) -> Any:
        if isinstance(element, Record) and fold.made.field is not None and own_of(fold.made.field) == "user":
            return None if element.user is None else self._user(element.user)
        return _given(fold, element, time)

    def _part(self, element: Any, name: str, field: Any, user: bool) -> Any:
        if user and isinstance(element, Record):
            return None if element.user is None else self._user(element.user)
        found = read(element, field)
        return None if found is MISSING else part_of(_plain(found), name)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _given(fold: Accumulator, element: Any, time: int) -> Any:
    """What an element gives to an accumulator; an instant stays one, whatever its field is called."""
    if fold.made.field is not None and isinstance(found := value_of(element, fold.made.field), datetime):
        fold.instants = True
        return when.instant(found, _UTC)
    return fold.read(element, time)


class _Unknown(Exception):
    """A function of the stream gave something else for the same record than it did before."""


class OfElements(Table):
    """The rows of a view over a stream: elements come and go."""

    def __init__(self, store: Store, definition: Definition) -> None:
        super().__init__(store, definition)
        self._by_user = definition.user_at is not None or any(
            made.field is not None and own_of(made.field) == "user" for made in definition.compute.values()
        )
        self._identity = Identity()
        self._merges: Any = None
        self._sliding = definition.last
        self._edge = 0
        self._read = Elements(definition, lambda id: self._identity.user(id))
        self._feed = definition.source.feed(self._came, self._went, self._start)
        self._start()

    def _start(self) -> None:
        self._dirty.update(self._rows)
        self._groups = Groups(self.definition, self._read.folds, self._dirty)
        self._times: list[tuple[int, Hashable]] = []
        self._place: dict[Hashable, Key] = {}

    def _begin_again(self) -> None:
        super()._begin_again()
        self._feed.begin_again()

    def _row_at(self, place: Key) -> Row | None:
        return self._groups.row(place)

    def _follow(self, now: int) -> None:
        if self._by_user:
            merges = self._store.log.scan("merge")
            if merges != self._merges:
                if self._merges is not None:
                    self._begin_again()
                self._merges = merges
                self._identity = Identity()
                self._identity.load(merges)
        self._edge = 0 if self._sliding is None else now - self._sliding
        try:
            self._feed.follow()
        except _Unknown:
            self._begin_again()
            self._feed.follow()
        self.position = self._feed.position

    def _passes(self, now: int) -> None:
        edge = None if self._sliding is None else now - self._sliding
        while edge is not None and self._times and self._times[0][0] < edge:
            self._leave(heapq.heappop(self._times)[1])

    def _came(self, element: Any, id: Hashable) -> None:
        found = self._read.read(element.value, element.time)
        if found is None:
            return
        order = (element.order, id)
        if self._sliding is None:
            self._groups.add(*found, element.time, order)
        elif element.time >= self._edge:
            self._groups.keep(found[0], id, found[1], element.time, order)
            self._place[id] = found[0]
            heapq.heappush(self._times, (element.time, id))

    def _went(self, element: Any, id: Hashable) -> None:
        if self._sliding is not None:
            self._leave(id)
            return
        found = self._read.read(element.value, element.time)
        if found is not None and not self._groups.remove(*found, element.time, (element.order, id)):
            raise _Unknown

    def _leave(self, id: Hashable) -> None:
        place = self._place.pop(id, None)
        if place is not None:
            self._groups.leave(place, id)


class OfRows(Table):
    """The rows of a view over another view: what changes there changes here.

    Args:
        source: the other view's table.
    """

    def __init__(self, store: Store, definition: Definition, source: Callable[[], Table]) -> None:
        super().__init__(store, definition)
        self._source = source
        self._condition = getattr(definition.source, "condition", TRUE)
        self._read = Elements(definition, lambda id: id)
        self._watch: Watch | None = None
        self._start()

    @property
    def timed(self) -> bool:
        return self._source().timed

    def _start(self) -> None:
        self._groups = Groups(self.definition, self._read.folds, self._dirty)
        self._watch = None

    def _row_at(self, place: Key) -> Row | None:
        return self._groups.row(place)

    def _follow(self, now: int) -> None:
        """Its source says what is new."""

    def _passes(self, now: int) -> None:
        source = self._source()
        if self._watch is None or self._watch.table is not source:
            if self._watch is not None:
                self._dirty.update(self._rows)
                self._start()
            self._watch = source.watch(told=True)
        for place, before, after in self._watch.changes():
            if before is not None and (found := self._given(before)) is not None:
                self._groups.remove(*found, 0, sort_key(place, before, source.definition.order_by))
            if after is not None and (found := self._given(after)) is not None:
                self._groups.add(*found, 0, sort_key(place, after, source.definition.order_by))
        self.position = source.position

    def _given(self, row: Row) -> tuple[Key, tuple[Any, ...]] | None:
        return self._read.read(row, 0) if self._condition.matches(row) else None
