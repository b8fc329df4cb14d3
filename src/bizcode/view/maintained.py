"""A view's groups, kept up to date: each look reads the records that came since the last one.

Retractions, merges of users and what leaves a sliding range are taken out of the groups. Only where what is
left can't be told (the least of a group goes) is a sliding group made again from its records, or another view
from the log.
"""

from __future__ import annotations

import heapq
import threading
from typing import TYPE_CHECKING, Any

from ..engine import Session
from ..plan.accumulator import Accumulator
from ..plan.condition import TRUE
from ..plan.fields import MISSING, as_field, read
from ..record import Row, record_of
from .compute import in_order
from .definition import Definition
from .grouped import Key, entries, folds_of, key_order, row_of, states

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Maintained", "can_be_maintained"]


def can_be_maintained(definition: Definition) -> bool:
    """Whether the records alone tell a view's rows: not if its source is no selection of them, or one by a
    range that moves, or if it collects whole elements."""
    select = definition.select
    return (
        select is not None
        and select.since is None
        and select.until is None
        and all(m.field is not None or m.operation == "count" for m in definition.compute.values())
    )


class _Group:
    __slots__ = ("count", "records", "stale", "states")

    def __init__(self, folds: list[Accumulator]) -> None:
        self.count = 0
        self.states = [fold.new() for fold in folds]
        self.records: dict[int, tuple[int, tuple[Any, ...]]] = {}
        """Of a sliding view: position -> (time, values)."""
        self.stale = False


class Maintained:
    """The rows of one view over the log."""

    def __init__(self, store: Store, definition: Definition) -> None:
        self.definition = definition
        self.position = 0
        self.looked = 0
        """When it was brought up to date last, in microseconds."""
        self._store = store
        self._folds = folds_of(definition)
        self._sliding = definition.last is not None
        self._by_user = "user" in definition.group_by
        self._lock = threading.RLock()
        self._changes: Any = None
        self._start()

    def _start(self) -> None:
        self._groups: dict[Key, _Group] = {}
        self._rows: dict[Key, Row] = {}
        self._sorted: list[Key] | None = None
        self._top: dict[Key, Row] | None = None
        self._dirty: set[Key] = set()
        self._times: list[tuple[int, int, Key]] = []
        self._of: dict[int, Key] = {}
        self._seen: dict[tuple[str, str], frozenset[int]] = {}
        self._identity: tuple[int, int] | None = None
        self._erased: bytes | None = None
        self.position = 0
        self._changes = None

    def rebuild(self) -> None:
        """Make it anew from the log."""
        with self._lock:
            self._start()
            self.rows()

    def rows(self, staleness: int = 0) -> dict[Key, Row]:
        """All rows that meet `having`, by key; not to be changed. `staleness`: microseconds by which it may
        be older than the log."""
        with self._lock:
            now = self._store.now()
            if staleness and self._changes is not None and 0 <= now - self.looked <= staleness:
                return self._rows
            self._follow(now)
            return self._rows

    def top(self, staleness: int = 0) -> dict[Key, Row]:
        """The rows in the view's order, as many as it shows; not to be changed."""
        with self._lock:
            found = self.rows(staleness)
            if self._top is None:
                if self._sorted is None:
                    self._sorted = sorted(found, key=key_order)
                self._top = in_order({key: found[key] for key in self._sorted}, self.definition)
            return self._top

    # following

    def _follow(self, now: int) -> None:
        store = self._store
        store.log.flush()
        changes = store.log.changes()
        if changes != self._changes:
            with store.engine.session() as session:
                self._catch_up(session, now)
            self._changes = changes
        if self._sliding:
            self._expire(now)
        self.looked = now
        self._refresh()

    def _catch_up(self, session: Session, now: int) -> None:
        view = session.view
        again = self._erased is not None and view.erased != self._erased
        if self._by_user and self._identity is not None and view.identity != self._identity:
            again = again or view.identity[0] != self._identity[0]
            if not again:
                self._rename()
        if not again:
            gone = self._retracted(session)
            again = not all(self._remove_at(position) for position in sorted(gone))
        if again:
            self._start()
        self._erased, self._identity = view.erased, view.identity
        self._seen = self._mine(session)
        if view.head > self.position:
            span = (self.position, view.head)
            if self._sliding:
                for entry in entries(session, self.definition, span, now - (self.definition.last or 0)):
                    self._put(*entry)
            else:
                for key, count, found in states(session, self.definition, span):
                    self._add(key, count, found)
            self.position = view.head

    def _group(self, key: Key) -> _Group:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._folds)
        self._dirty.add(key)
        return group

    def _add(self, key: Key, count: int, found: list[Any]) -> None:
        group = self._group(key)
        if not group.count:
            group.count, group.states = count, found
            return
        group.count += count
        for fold, mine, theirs in zip(self._folds, group.states, found, strict=True):
            fold.merge(mine, theirs)

    def _put(self, key: Key, time: int, position: int, values: tuple[Any, ...]) -> None:
        group = self._group(key)
        group.records[position] = (time, values)
        group.count += 1
        self._of[position] = key
        heapq.heappush(self._times, (time, position, key))
        for fold, state, value in zip(self._folds, group.states, values, strict=True):
            fold.add(state, value, time, position)

    # what goes

    def _mine(self, session: Session) -> dict[tuple[str, str], frozenset[int]]:
        select = self.definition.select
        assert select is not None
        return {
            (kind, name): positions
            for (kind, name), positions in session.view.retracted.items()
            if kind == select.kind and (select.names is None or name in select.names)
        }

    def _retracted(self, session: Session) -> set[int]:
        """Records that are in the groups and were taken back since."""
        found: set[int] = set()
        for name, positions in self._mine(session).items():
            known = self._seen.get(name)
            if known is not positions:
                found |= {p for p in positions - (known or frozenset()) if p <= self.position}
        return found

    def _remove_at(self, position: int) -> bool:
        if self._sliding:
            self._leave(position)
            return True
        stored = self._store.stored_at(position)
        if stored is None:
            return False
        record = record_of(stored, self._store.log.store_id)
        select = self.definition.select
        assert select is not None
        if not select.where.matches(record):
            return True
        group = self._groups.get(self._key(record))
        if group is None:
            return False
        values = [None if m.made.field is None else m.read(record, stored.time) for m in self._folds]
        pairs = zip(self._folds, group.states, values, strict=True)
        if not all(fold.remove(state, value, stored.time, position) for fold, state, value in pairs):
            return False
        group.count -= 1
        self._dirty.add(self._key(record))
        return True

    def _key(self, record: Any) -> Key:
        found = []
        for name in self.definition.group_by:
            if name == "user":
                user = record.user
                found.append(None if user is None else self._store.engine.tail.user(user))
                continue
            value = read(record, as_field(name))
            value = None if value is MISSING else value
            found.append(int(value) if type(value) is float and value.is_integer() else value)
        return tuple(found)

    def _leave(self, position: int) -> None:
        key = self._of.pop(position, None)
        if key is None:
            return
        group = self._groups[key]
        time, values = group.records.pop(position)
        group.count -= 1
        self._dirty.add(key)
        if group.stale:
            return
        for fold, state, value in zip(self._folds, group.states, values, strict=True):
            if not fold.remove(state, value, time, position):
                group.stale = True
                return

    def _expire(self, now: int) -> None:
        edge = now - (self.definition.last or 0)
        while self._times and self._times[0][0] < edge:
            self._leave(heapq.heappop(self._times)[1])

    def _rename(self) -> None:
        """Groups of users who are one now become one."""
        user = self._store.engine.tail.user
        at = self.definition.group_by.index("user")
        for key in list(self._groups):
            if key[at] is None or (name := user(key[at])) == key[at]:
                continue
            group = self._groups.pop(key)
            self._dirty.add(key)
            to = (*key[:at], name, *key[at + 1 :])
            if not self._sliding:
                self._add(to, group.count, group.states)
                continue
            for position, (time, values) in group.records.items():
                self._put(to, time, position, values)

    # rows

    def _refresh(self) -> None:
        having = self.definition.having
        for key in self._dirty:
            group = self._groups.get(key)
            row = None
            if group is not None and group.count <= 0:
                del self._groups[key]
            elif group is not None:
                row = self._row(key, group)
                if having != TRUE and not having.matches(row):
                    row = None
            if (row is None) != (key not in self._rows):
                self._sorted = None
            if row is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = row
        if self._dirty:
            self._top = None
            self._dirty = set()

    def _row(self, key: Key, group: _Group) -> Row:
        if group.stale:
            group.states = [fold.new() for fold in self._folds]
            for position, (time, values) in group.records.items():
                for fold, state, value in zip(self._folds, group.states, values, strict=True):
                    fold.add(state, value, time, position)
            group.stale = False
        return row_of(self.definition, self._folds, key, group.states)
