"""The order of a view's rows: by the fields asked for, None last, ties by the key."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from ..record import Row

__all__ = ["Key", "Ordering", "Sorted", "arranged", "key_of", "key_order", "place_of", "sort_key"]

Key = tuple[Any, ...]
Ordering = tuple[tuple[str, bool], ...]
"""(field, whether downwards) pairs."""

_FALSE, _TRUE = ("bool", False), ("bool", True)


def place_of(key: Key) -> Key:
    """A key as something to look up by: True is not 1."""
    return tuple((_TRUE if part else _FALSE) if part is True or part is False else part for part in key)


def key_of(place: Key) -> Key:
    """The key of a place."""
    return tuple(part[1] if type(part) is tuple else part for part in place)


def key_order(place: Key) -> Key:
    """What groups are sorted by where no order is asked for; no two places have the same."""
    return tuple(
        (5, 0)
        if part is None
        else (0, part[1])
        if type(part) is tuple
        else (1, part)
        if isinstance(part, (int, float))
        else (2, part)
        if isinstance(part, str)
        else (3, str(part))
        for part in place
    )


class _Down:
    """A value that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Down) -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


def sort_key(place: Key, row: Mapping[str, Any], order_by: Ordering) -> Key:
    """Where a row stands among the others; no two rows of a view have the same."""
    return (*(_part(row.get(name), descending) for name, descending in order_by), key_order(place))


def _part(value: Any, descending: bool) -> tuple[bool, Any]:
    comparable = _comparable(value)
    return (value is None, _Down(comparable) if descending else comparable)


def _comparable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    return (3, value) if isinstance(value, str) else (4, str(value))


def arranged(found: Iterable[Row], order_by: Ordering, limit: int | None, offset: int = 0) -> list[Row]:
    """Rows in order; None last, ties in the order given."""
    made = list(found)
    for name, descending in reversed(order_by):
        made.sort(key=lambda row: _comparable(row.get(name)), reverse=descending)
        made.sort(key=lambda row: row.get(name) is None)
    return made[offset : None if limit is None else offset + limit]


class Sorted:
    """Rows kept in order while some of them change: a few are moved, many are sorted anew."""

    def __init__(self, order_by: Ordering) -> None:
        self._order_by = order_by
        self._items: list[tuple[Key, Row]] | None = None
        self._moved: dict[Key, Row | None] = {}

    def changed(self, place: Key, before: Row | None) -> None:
        """A row is not what it was."""
        if self._items is not None:
            self._moved.setdefault(place, before)
            if len(self._moved) > 64 + len(self._items) // 8:
                self.clear()

    def clear(self) -> None:
        """Every row may have changed."""
        self._items = None
        self._moved = {}

    def first(self, rows: Mapping[Key, Row], limit: int | None) -> dict[Key, Row]:
        """The rows in order, at most so many."""
        items = self._items
        if items is None:
            items = self._items = self._anew(rows)
        for place, before in self._moved.items():
            after = rows.get(place)
            if before is not None:
                at = self._at(items, place, before)
                del items[at]
            if after is not None:
                items.insert(self._at(items, place, after), (place, after))
        self._moved = {}
        return dict(items if limit is None else items[:limit])

    def _anew(self, rows: Mapping[Key, Row]) -> list[tuple[Key, Row]]:
        items = sorted(rows.items(), key=lambda item: key_order(item[0]))
        for name, descending in reversed(self._order_by):
            items.sort(key=lambda item: _comparable(item[1].get(name)), reverse=descending)
            items.sort(key=lambda item: item[1].get(name) is None)
        return items

    def _at(self, items: list[tuple[Key, Row]], place: Key, row: Row) -> int:
        by = self._order_by
        return bisect_left(items, sort_key(place, row, by), key=lambda item: sort_key(item[0], item[1], by))
