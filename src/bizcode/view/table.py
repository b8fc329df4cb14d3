"""A view's rows as they are kept, and who is told what changed in them.

Every kind of view is one: of records, of a stream's elements, of another view's rows, made anew, written by a stream.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..record import Row
from .definition import Definition
from .order import Key, Sorted, place_of

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Table", "Watch"]


class Table(ABC):
    """The rows of one view: those that meet `having`, by place (see `order.place_of`).

    A kind of view says how it is brought up to date (`_follow`), and which row a place has now (`_row_at`).
    """

    def __init__(self, store: Store, definition: Definition) -> None:
        self.definition = definition
        self.position = 0
        """The log's position that it shows."""
        self.looked = 0
        """When it was brought up to date last, in microseconds."""
        self._store = store
        self._lock = threading.RLock()
        self._rows: dict[Key, Row] = {}
        self._dirty: set[Key] = set()
        self._unread: set[Key] = set()
        """Places that nobody has asked for yet: their rows are still to be made."""
        self._sorted = Sorted(definition.order_by)
        self._top: dict[Key, Row] | None = None
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._seen: Any = None
        """What `_version` was when it was brought up to date last."""

    # to be said by each kind

    @abstractmethod
    def _start(self) -> None:
        """Begin again from nothing."""

    @abstractmethod
    def _follow(self, now: int) -> None:
        """Take what is new; places whose row may have changed go to `_dirty`."""

    @abstractmethod
    def _row_at(self, place: Key) -> Row | None:
        """The row of a place, None if there is none."""

    def _version(self) -> Any:
        """Differs when there may be something new."""
        return self._store.log.changes()

    @abstractmethod
    def _passes(self, now: int) -> None:
        """Let go of what is too old by now."""

    @property
    def timed(self) -> bool:
        """Whether rows change with the clock alone."""
        return self.definition.last is not None

    # reading

    def row(self, key: Key, staleness: int = 0) -> Row | None:
        """The row of a key among those that the view shows, None if there is none."""
        with self._lock:
            if self.definition.limit is not None:
                return self.top(staleness).get(place_of(key))
            place = place_of(key)
            self._update(staleness)
            if place in self._dirty or place in self._unread:
                self._renew(place)
                self._dirty.discard(place)
                self._unread.discard(place)
            return self._rows.get(place)

    def top(self, staleness: int = 0) -> Mapping[Key, Row]:
        """The rows in the view's order, as many as it shows; not to be changed."""
        with self._lock:
            self._update(staleness)
            self._settle()
            if self._top is None:
                self._top = self._sorted.first(self._rows, self.definition.limit)
            return self._top

    def rebuild(self) -> None:
        """Make it anew."""
        with self._lock:
            self._begin_again()
            self._update(0)

    def watch(self, told: bool = False) -> Watch:
        """Be told what changes from now on; `told`: begin with the present rows."""
        with self._lock:
            self.top()
            watch = Watch(
                self, {} if told else dict(self.top()) if self.definition.limit is not None else None
            )
            if self.definition.limit is None:
                if told:
                    watch.former = dict.fromkeys(self._rows)
                self._watches.add(watch)
            return watch

    # keeping

    def _update(self, staleness: int) -> None:
        store = self._store
        now = store.now()
        if staleness and self._seen is not None and 0 <= now - self.looked <= staleness:
            return
        store.log.flush()
        version = self._version()
        try:
            if version != self._seen:
                self._follow(now)
                self._seen = version
            self._passes(now)
        except BaseException:
            # Half of what is new may be in it.
            self._begin_again()
            raise
        self.looked = now

    def _begin_again(self) -> None:
        self._dirty.update(self._rows)
        self._unread.clear()
        self._seen = None
        self.position = 0
        self._start()

    def _settle(self) -> None:
        for places in (self._dirty, self._unread):
            for place in places:
                self._renew(place)
            places.clear()

    def _renew(self, place: Key) -> None:
        row = self._row_at(place)
        if row is not None and not self.definition.having.matches(row):
            row = None
        before = self._rows.get(place)
        if before is row or (before is not None and row is not None and same(before, row)):
            return
        if row is None:
            del self._rows[place]
        else:
            self._rows[place] = row
        self._top = None
        self._sorted.changed(place, before)
        for watch in self._watches:
            watch.former.setdefault(place, before)


class Watch:
    """What changed in a table since it was looked at last.

    Args:
        shown: of a table with a limit, the rows that it showed.
    """

    def __init__(self, table: Table, shown: dict[Key, Row] | None) -> None:
        self.table = table
        self.former: dict[Key, Row | None] = {}
        """Of a table without a limit: places whose rows changed, with what they were."""
        self._shown = shown

    def changes(self) -> list[tuple[Key, Row | None, Row | None]]:
        """(place, before, after) of each row that is not what it was; None where there is none."""
        with self.table._lock:
            rows = self.table.top() if self._shown is not None else self.table._rows
            if self._shown is None:
                self.table._update(0)
                self.table._settle()
                former, self.former = self.former, {}
            else:
                former = dict[Key, Row | None](self._shown)
                former.update((place, None) for place in rows if place not in self._shown)
                self._shown = dict(rows)
            found = []
            for place, before in former.items():
                after = rows.get(place)
                if before is after or (before is not None and after is not None and same(before, after)):
                    continue
                found.append((place, before, after))
            return found

    def rows(self) -> dict[Key, Row]:
        """The rows as they were when it was looked at last."""
        with self.table._lock:
            if self._shown is not None:
                return dict(self._shown)
            found: dict[Key, Row | None] = {**self.table._rows, **self.former}
            return {place: row for place, row in found.items() if row is not None}


def same(a: Row, b: Row) -> bool:
    """Whether two rows of a view say the same: True is not 1, and 1 is 1.0 only as numbers go."""
    return dict.__eq__(a, b) and not any(
        (a[name] is True or a[name] is False) is not (b[name] is True or b[name] is False)
        for name in dict.keys(a)
    )
