"""Views whose rows are not kept up to date record by record: made anew when the log or the clock has moved, or written
by a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..engine import Session
from ..record import Row
from .definition import Definition
from .elements import Elements
from .grouped import answering, folds_of, states
from .groups import Groups
from .order import Key, place_of
from .reading import part_of
from .table import Table

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Anew", "Written", "rows_of"]


def rows_of(store: Store, definition: Definition) -> dict[Key, Row]:
    """All groups by place; before `having`, order and limit."""
    if definition.select is not None:
        with store.engine.session() as session:
            groups = _by_records(session, definition)
    else:
        groups = _by_elements(store, definition)
    found = ((place, groups.row(place)) for place in list(groups))
    return {place: row for place, row in found if row is not None}


def _by_records(session: Session, definition: Definition) -> Groups:
    groups = Groups(definition, folds_of(definition), set())
    since = None if definition.last is None else session.now - definition.last
    user = session.engine.tail.user
    at = definition.user_at
    with answering(session, definition) as asked:
        for part in states(asked, definition, since=since):
            place = place_of(part.key)
            if at is not None and place[at] is not None:
                place = (*place[:at], user(place[at]), *place[at + 1 :])
            groups.merge(place, part.count, part.states)
    return groups


def _by_elements(store: Store, definition: Definition) -> Groups:
    source = definition.source
    elements = source.get().run() if hasattr(source, "get") else source.run(since="start").run()
    edge = None if definition.last is None else store.now() - definition.last
    with store.engine.session():
        """Now it is known which ids are one user."""
    read = Elements(definition, store.engine.tail.user)
    groups = Groups(definition, read.folds, set())
    for n, element in enumerate(elements):
        moment = getattr(element, "timestamp", None)
        time = 0 if moment is None else when.instant(moment, store.tz)
        found = None if edge is not None and moment is not None and time < edge else read.read(element, time)
        if found is not None:
            groups.add(*found, time, n)
    return groups


class Anew(Table):
    """Rows that are computed anew whenever the log has moved, or the clock where time matters."""

    def __init__(self, store: Store, definition: Definition) -> None:
        super().__init__(store, definition)
        self._start()

    def _start(self) -> None:
        self._found: dict[Key, Row] = {}

    def _version(self) -> Any:
        log = self._store.log
        return log.changes(), self._store.now() if self.timed else 0

    @property
    def timed(self) -> bool:
        select = self.definition.select
        return super().timed or (select is not None and select.since is not None)

    def _follow(self, now: int) -> None:
        head = self._store.log.head()
        self._dirty.update(self._found)
        self._found = rows_of(self._store, self.definition)
        self._dirty.update(self._found)
        self.position = head

    def _passes(self, now: int) -> None:
        """Made anew, it has nothing that is too old."""

    def _row_at(self, place: Key) -> Row | None:
        return self._found.get(place)


class Written(Anew):
    """Rows that a stream writes."""

    def _follow(self, now: int) -> None:
        log = self._store.log
        self.position = log.head()
        self._dirty.update(self._found)
        kept = log.scan(f"view:{self.definition.name}")
        self._found = {_place(key): Row(orjson.loads(row)) for key, row in kept}
        self._dirty.update(self._found)


def _place(kept: str) -> Key:
    return tuple(part_of(part, "key") for part in orjson.loads(kept))
