"""A window as it is kept."""

from __future__ import annotations

from typing import Any

from .element import Element, key_text

__all__ = ["Kept", "spans"]


class Kept:
    """One window, kept at `place`. `ids` are those of its results that stand, `revision` the highest number of
    any result."""

    __slots__ = (
        "count",
        "end",
        "entries",
        "fired",
        "ids",
        "key",
        "names",
        "place",
        "revision",
        "start",
        "states",
    )

    def __init__(self, key: Any, names: tuple[str, ...], start: int, end: int, states: list[Any]) -> None:
        self.key = key
        self.names = names
        self.start = start
        self.end = end
        self.states = states
        self.entries: list[Any] = []
        self.count = 0
        self.fired = False
        self.ids: list[str] = []
        self.revision = 0
        self.place = f"{key_text(key)}|{start}"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "place"}

    @staticmethod
    def of(found: dict[str, Any]) -> Kept:
        """From JSON."""
        key = tuple(found["key"]) if len(found["names"]) > 1 else found["key"]
        kept = Kept(key, tuple(found["names"]), found["start"], found["end"], found["states"])
        for name in ("entries", "count", "fired", "ids", "revision"):
            setattr(kept, name, found[name])
        return kept


def spans(elements: list[Element], gap: int) -> list[tuple[int, int]]:
    """The sessions of elements in order of time."""
    found: list[tuple[int, int]] = []
    for element in elements:
        if found and element.time < found[-1][1]:
            found[-1] = (found[-1][0], element.time + gap)
        else:
            found.append((element.time, element.time + gap))
    return found
