"""Records of a pipeline's source, by time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import when
from ..engine import Session
from ..engine.relation import Column
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import Stored

if TYPE_CHECKING:
    from ..consume import Pattern
    from ..store import Store

__all__ = ["between", "selects"]

_EVER = 2**60


def selects(session: Session, pattern: Pattern, low: int | None, high: int | None) -> list[Select]:
    """What a pattern means to the engine: for each kind the names that occur."""
    view = session.view
    found = []
    for kind in sorted(pattern.kinds):
        names = pattern.names
        if names is None and pattern.test is not None:
            known = {*view.catalog.names(kind), *(name for k, name in view.names if k == kind)}
            names = frozenset(
                name
                for name in known
                if pattern.test(Stored(0, kind, name, 0, "{}", None, None, None, None, None, None))
            )
        if names is None or names:
            found.append(
                Select(
                    kind=kind,
                    names=None if names is None else tuple(sorted(names)),
                    since=None if low is None else when.to_datetime(low),
                    until=None if high is None else when.to_datetime(high),
                )
            )
    return found


def between(store: Store, pattern: Pattern, low: int, high: int, after: int, upto: int) -> Iterator[Stored]:
    """The records of a pattern with low <= time < high, after one position and up to another, in order of time;
    retracted ones are left out."""
    bounds = (None if low < -_EVER else low, None if high > _EVER else high)
    with store.engine.session() as session:
        positions: list[int] = []
        for select in selects(session, pattern, *bounds):
            parameters = Parameters()
            columns = {"place": Column("position"), "moment": Column("timestamp")}
            relation = session.relation(select, columns, parameters, (after, upto))
            sql = f"SELECT place FROM ({relation.sql}) ORDER BY moment, place"
            positions += [position for (position,) in session.fetch(sql, parameters)]
    for n in range(0, len(positions), 5_000):
        yield from store.stored(positions[n : n + 5_000])
