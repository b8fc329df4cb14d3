"""A view's rows, by one grouped statement over the records, or by a fold over the elements of another source."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine import Session
from ..errors import InvalidQuery
from ..plan.accumulator import Accumulator
from ..plan.aggregation import value_of
from ..plan.condition import TRUE
from ..plan.fields import MISSING, as_field, read
from ..record import Row
from .definition import Definition
from .grouped import Key, folds_of, key_order, row_of, states

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["arranged", "in_order", "rows"]

_UTC = when.zone("UTC")


def rows(store: Store, definition: Definition) -> dict[Key, Row]:
    """All groups that meet `having`, by key; before order and limit."""
    if definition.select is not None:
        with store.engine.session() as session:
            found = _by_records(session, definition)
    else:
        found = _by_elements(store, definition)
    if definition.having != TRUE:
        found = {key: row for key, row in found.items() if definition.having.matches(row)}
    return found


def arranged(
    found: Iterable[Row], order_by: tuple[tuple[str, bool], ...], limit: int | None, offset: int = 0
) -> list[Row]:
    """Rows in order; None last, ties in the order given."""
    made = list(found)
    for name, descending in reversed(order_by):
        made.sort(key=lambda row: _sortable(row.get(name)), reverse=descending)
        made.sort(key=lambda row: row.get(name) is None)
    return made[offset : None if limit is None else offset + limit]


def in_order(found: dict[Key, Row], definition: Definition) -> dict[Key, Row]:
    """A view's rows in its order, as many as it shows."""
    if not definition.order_by and definition.limit is None:
        return found
    keys = {id(row): key for key, row in found.items()}
    return {keys[id(row)]: row for row in arranged(found.values(), definition.order_by, definition.limit)}


def _sortable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    return (3, value) if isinstance(value, str) else (4, str(value))


def _by_records(session: Session, definition: Definition) -> dict[Key, Row]:
    for made in definition.compute.values():
        if made.operation == "collect" and made.field is None:
            raise InvalidQuery(f"a view can't compute {made!r}: collect() needs a field there")
    since = None if definition.last is None else session.now - definition.last
    found = {key: made for key, _, made in states(session, definition, since=since)}
    folds = folds_of(definition)
    return {key: row_of(definition, folds, key, found[key]) for key in sorted(found, key=key_order)}


def _by_elements(store: Store, definition: Definition) -> dict[Key, Row]:
    source = definition.source
    elements = source.get().run() if hasattr(source, "get") else source.run(since="start").run()
    edge = None if definition.last is None else store.now() - definition.last
    folds = folds_of(definition)
    groups: dict[Key, list[Any]] = {}
    for n, element in enumerate(elements):
        if definition.where != TRUE and not definition.where.matches(element):
            continue
        moment = getattr(element, "timestamp", None)
        time = when.instant(moment, store.tz) if moment is not None else 0
        if edge is not None and moment is not None and time < edge:
            continue
        key = tuple(_plain(read(element, as_field(name))) for name in definition.group_by)
        made = groups.get(key)
        if made is None:
            made = groups[key] = [fold.new() for fold in folds]
        for fold, state in zip(folds, made, strict=True):
            fold.add(state, _given(fold, element, time), time, n)
    return {key: row_of(definition, folds, key, made) for key, made in groups.items()}


def _given(fold: Accumulator, element: Any, time: int) -> Any:
    """What an element gives to an accumulator; an instant stays one, whatever its field is called."""
    if fold.made.field is not None and isinstance(found := value_of(element, fold.made.field), datetime):
        fold.instants = True
        return when.instant(found, _UTC)
    return fold.read(element, time)


def _plain(value: Any) -> Any:
    return None if value is MISSING else value
