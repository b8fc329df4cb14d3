"""The keys of groups: told apart, put in order, and as a result shows them."""

from __future__ import annotations

from typing import Any

__all__ = ["ListText", "apart", "by_key", "mapping"]


class ListText(str):
    """A list as a key: its JSON text, which isn't the same key as that text itself."""

    __slots__ = ()


def mapping(rows: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of the rows. In Python True == 1, so where both are keys the boolean stands as its text, quoted as
    often as it takes to be no other key; likewise the second of two numbers that only doubles tell apart, and a
    list where its text is another key."""
    result: dict[Any, Any] = {}
    taken = {key for key, _ in rows if not _yields(key)}
    for given, value in rows:
        key, quotes = given, ""
        while key in result or (_yields(given) and key in taken):
            key, quotes = _as_text(given, quotes), quotes + "'"
        result[key] = value
    return result


def _as_text(key: Any, quotes: str) -> Any:
    if isinstance(key, tuple):
        return tuple(_as_text(part, quotes) for part in key)
    return f"{quotes}{key}{quotes}" if isinstance(key, (bool, int, float, ListText)) else key


def _yields(key: Any) -> bool:
    return any(isinstance(part, (bool, ListText)) for part in (key if isinstance(key, tuple) else (key,)))


def apart(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key that is equal only to itself: True isn't 1, and a list isn't its text."""
    return tuple((isinstance(part, (bool, ListText)), part) for part in key)


def by_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value is None, type(value).__name__, value if value is not None else 0) for value in key)
