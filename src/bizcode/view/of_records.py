"""A view of records, kept up to date: each look takes the records that came since the last one.

What is not sealed yet is taken record by record, in the order of the log, merges of users and retractions among them;
what is sealed, a stretch at once by one statement. Where what is left of a group can't be told (its least goes), one
statement makes those groups again, from their records only.
"""

from __future__ import annotations

import heapq
import uuid
from array import array
from typing import TYPE_CHECKING, Any

import orjson

from ..engine import Session
from ..engine.identity import Identity
from ..engine.rows import records
from ..log import Reader
from ..plan.select import Select
from ..record import SYSTEM, Row
from ..segments.seal import ERASED
from . import kept
from .definition import Definition, to_spec
from .grouped import answering, entries, folds_of, states
from .groups import Groups
from .order import Key, place_of
from .reading import Reading, reads_user
from .table import Table

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["OfRecords", "can_be_followed"]

_CHUNK = 50_000


def can_be_followed(definition: Definition) -> bool:
    """Whether the records alone tell a view's rows: not if its source is no selection of them, or one by a
    range that moves, or if it collects whole elements."""
    select = definition.select
    return (
        select is not None
        and select.since is None
        and select.until is None
        and all(made.field is not None or made.operation == "count" for made in definition.compute.values())
    )


class OfRecords(Table):
    """The rows of one view over the log."""

    def __init__(self, store: Store, definition: Definition) -> None:
        super().__init__(store, definition)
        self._folds = folds_of(definition)
        self._sliding = definition.last is not None
        self._user_at = definition.user_at
        self._reads_user = reads_user(definition)
        self._merges = self._user_at is not None or self._reads_user
        self._keepable = not self._sliding and not store.temporary and to_spec(definition) is not None
        self._begun = 0
        """How often it was begun."""
        self._forget_users()
        self._start()

    def _forget_users(self) -> None:
        """Which ids are one user is to be learnt from the beginning."""
        self._identity = Identity()
        self._told = 0
        self._erased: bytes | None = None
        self._reading = Reading(self.definition, self._store.log.store_id, self._identity.user)

    def _start(self) -> None:
        self.position = 0
        self._begun += 1
        self._kept: str | None = None
        """What is kept, if that is what it was made of but for the changed groups."""
        self._kept_at = 0
        self._changed: set[Key] = set()
        self._groups = Groups(self.definition, self._folds, self._dirty)
        self._times: list[tuple[int, int]] = []
        self._place: dict[int, Key] = {}
        self._stale: set[Key] = set()
        """Groups to be made again."""
        self._split: set[str | None] = set()
        """Users whose groups are to be made again."""
        self._gone: set[int] = set()
        self._gone_before: list[frozenset[int]] = []
        """Records that were taken back, since the beginning and before it: one can be so twice."""
        self._lost = False
        """Whether all is to be made again."""

    def _row_at(self, place: Key) -> Row | None:
        if self._keepable and place in self._dirty:
            self._changed.add(place)
        return self._groups.row(place)

    def _passes(self, now: int) -> None:
        edge = self._edge(now)
        while edge is not None and self._times and self._times[0][0] < edge:
            self._leave(heapq.heappop(self._times)[1])

    def _edge(self, now: int) -> int | None:
        return None if self.definition.last is None else now - self.definition.last

    # following

    def _follow(self, now: int) -> None:
        edge = self._edge(now)
        with self._store.log.snapshot() as reader:
            erased = reader.get(*ERASED) or b""
            if self._erased is None:
                self._erased = erased
                if self._keepable and self._begun == 1:
                    self._restore(reader, erased)
            behind = self.position < self._store.segments.catalog(reader).sealed_to
            if not behind and erased == self._erased:
                self._take(reader, edge)
            else:
                self._lost |= erased != self._erased
        if behind or self._lost or self._stale or self._split:
            with self._store.engine.session() as session:
                self._take_at_once(session, edge)
                self._make_again(session)
        self._told = max(self._told, self.position)

    def _take(self, reader: Reader, edge: int | None) -> None:
        """What is not sealed, record by record."""
        reading, groups = self._reading, self._groups
        kind, names = reading.kind, reading.names
        head = reader.head()
        while self.position < head:
            rows = reader.read(self.position, limit=_CHUNK)
            for row in rows:
                if row.kind == kind:
                    if (names is None or row.name in names) and (found := reading.read(row)) is not None:
                        if edge is None:
                            groups.add(*found, row.time, row.position)
                        elif row.time >= edge:
                            self._keep(*found, row.time, row.position)
                elif row.kind == SYSTEM:
                    self._take_system(row.name, row.position, row.data)
            self.position = rows[-1].position if len(rows) == _CHUNK else head

    def _take_at_once(self, session: Session, edge: int | None) -> None:
        """Everything up to a session's moment, by one statement."""
        view = session.view
        if self._lost or view.erased != self._erased:
            self._begin_again()
            self._forget_users()
            self._erased = view.erased
        if view.head <= self.position:
            return
        for row in self._system_rows(session):
            # What is taken back among the records to come is not among those that the statement gives.
            if row.type != "retract" or row.data["position"] <= self.position:
                self._take_system(row.type, row.position, orjson.dumps(row.data))
        if self._lost:
            self._begin_again()
        self._gone_before += [
            gone for (kind, name), gone in view.retracted.items() if self._reading.reads(kind, name)
        ]
        span = (self.position, view.head)
        if edge is not None:
            for key, time, position, values in entries(session, self.definition, span, edge):
                self._keep(self._placed(key), values, time, position)
        else:
            with answering(session, self.definition, whole=not self.position) as asked:
                for part in states(asked, self.definition, span):
                    self._groups.merge(self._placed(part.key), part.count, part.states, part.rounded)
        self.position = view.head

    def _system_rows(self, session: Session) -> list[Any]:
        names = ("identify", "unidentify") if self._merges else ()
        after = self._told if self._merges else self.position
        if self.position:
            names = (*names, "retract")
            after = min(after, self.position)
        if not names:
            return []
        select = Select(kind=SYSTEM, names=names)
        span = (after, session.view.head)
        found = [row for chunk in records(session, select, newest_first=False, span=span) for row in chunk]
        return sorted(found, key=lambda row: row.position)

    def _placed(self, key: Key) -> Key:
        place = place_of(key)
        at = self._user_at
        if at is None or place[at] is None:
            return place
        return (*place[:at], self._identity.user(place[at]), *place[at + 1 :])

    def _keep(self, place: Key, values: tuple[Any, ...], time: int, position: int) -> None:
        """A record of a sliding range."""
        self._groups.keep(place, position, values, time, position)
        self._place[position] = place
        heapq.heappush(self._times, (time, position))

    # merges and retractions

    def _take_system(self, name: str, position: int, data: str | bytes) -> None:
        if name == "retract":
            if position > self.position:
                self._retract(orjson.loads(data))
        elif self._merges and name in ("identify", "unidentify") and position > self._told:
            self._told = position
            self._merge(name, position, orjson.loads(data))

    def _merge(self, name: str, position: int, data: dict[str, Any]) -> None:
        identity = self._identity
        if name == "unidentify":
            before = identity.names()
            identity.undo(data["alias"], position)
            after = identity.names()
            changed = {id for id in before.keys() | after.keys() if before.get(id, id) != after.get(id, id)}
            touched = {names.get(id, id) for id in changed for names in (before, after)}
            if self._reads_user or (touched and self._sliding):
                self._lost = True
            else:
                self._split |= touched
            return
        former = {identity.user(data["alias"]), identity.user(data["user"])}
        identity.merge(data["alias"], data["user"], position)
        if self._reads_user:
            self._lost = True
            return
        new = identity.user(data["user"])
        for old in former - {new}:
            for id, place in self._groups.rename(old, new):
                self._place[id] = place  # type: ignore[index]
            if old in self._split:
                self._split.add(new)

    def _retract(self, data: dict[str, Any]) -> None:
        position = data["position"]
        known = position in self._gone or any(position in gone for gone in self._gone_before)
        if known or not self._reading.reads(data["kind"], data["name"]):
            return
        self._gone.add(position)
        if self._sliding:
            self._leave(position)
            return
        stored = self._store.stored_at(position)
        # One that was erased meanwhile: the next look is told so.
        found = None if stored is None else self._reading.read(stored)
        if stored is None or found is None:
            return
        place, values = found
        told = self._groups.remove(place, values, stored.time, position)
        if told is None:
            self._lost = True
        elif not told and self._user_at is not None:
            self._split.add(place[self._user_at])
        elif not told:
            self._stale.add(place)

    def _leave(self, position: int) -> None:
        place = self._place.pop(position, None)
        if place is not None:
            self._groups.leave(place, position)

    # what can't be told from the states

    def _make_again(self, session: Session) -> None:
        """The groups that are stale, from their records, by one statement."""
        at, identity = self._user_at, self._identity
        if at is None:
            wanted = {place for place in self._stale if place in self._groups}
            only = {n: {place[n] for place in wanted} for n in range(len(self.definition.group_by))}
        else:
            # Of these users every group, by whichever of their ids it was written.
            wanted = {place for name in self._split for place in self._groups.of_user(name)}
            only = {at: {id for name in self._split for id in identity.members(name)}}
        stale, split = self._stale, self._split
        self._stale, self._split = set(), set()
        if not (stale or split):
            return
        for place in wanted:
            self._groups.drop(place)
        for part in states(session, self.definition, (0, self.position), only=only):
            place = self._placed(part.key)
            if place in wanted or (at is not None and place[at] in split):
                self._groups.merge(place, part.count, part.states, part.rounded)

    # what a later process begins with

    def _restore(self, reader: Reader, erased: bytes) -> None:
        """Begin with the groups that were kept, if they still hold."""
        name = self.definition.name
        found = kept.load(reader, name)
        if (
            found is None
            or found.text != self.definition.text()
            or found.erased != erased.decode()
            or found.position > reader.head()
        ):
            return
        if self._merges:
            merges = [pair for pair in reader.scan("merge") if int(pair[0]) <= found.position]
            if kept.digest(int(key) for key, _ in merges) != found.merges:
                return
            self._identity.load(merges)
        for group in kept.groups(reader, name):
            self._groups.restore(*group)
        self._unread.update(self._groups)
        self._dirty.clear()
        self._gone_before.append(kept.gone(reader, name))
        self.position = self._told = self._kept_at = found.position
        self._kept = found.token

    def worth_keeping(self, records: int) -> bool:
        """Whether so many records came since its groups were kept."""
        return self._keepable and self._seen is not None and self.position - self._kept_at >= records

    def keep(self, records: int) -> bool:
        """Keep the groups that changed, if so many records came since; True if that was done."""
        with self._lock:
            if not self.worth_keeping(records):
                return False
            self._settle()
            self._kept_at = self.position
            groups = self._groups
            if groups.records < kept.WORTH * len(groups):
                return False
            former, begun = self._kept, self._begun
            places = self._changed if former is not None else list(groups)
            if not all(
                kept.can_be_packed(group) for place in places if (group := groups.get(place)) is not None
            ):
                return False
            changed = [kept.packed(place, groups.get(place)) for place in places]
            gone = array("q", sorted(self._gone.union(*self._gone_before))).tobytes()
            made = kept.Kept(
                uuid.uuid4().hex,
                self.definition.text(),
                self.position,
                (self._erased or b"").decode(),
                kept.digest(self._identity.positions()) if self._merges else "",
            )
            self._changed, self._kept = set(), None
        done = kept.save(self._store, self.definition.name, made, former, changed, gone)
        with self._lock:
            if done and self._begun == begun:
                self._kept = made.token
        return done
