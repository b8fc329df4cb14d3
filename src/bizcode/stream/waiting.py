"""What waits at a buffer, until the stream has caught up with what there was. State: "buffer<stage>" -> elements."""

from __future__ import annotations

from typing import Any

from .element import Element, gone, packed, unpacked
from .state import State
from .steps import Buffer

__all__ = ["Waiting"]


class Waiting:
    """The elements at one buffer, at most `size`.

    While there is more to read, elements wait here, and a function that is slow is called for no more than
    these: it is called when all has come that was there as the first of them did.
    """

    def __init__(self, step: Buffer, state: State, place: str) -> None:
        self._step = step
        self._state = state
        self._place = place
        self.until = 0
        """The head of the log as the first of them came."""
        state.loader(self._load)
        state.before_save.append(self._save)

    def _load(self) -> None:
        kept: list[Any] = self._state.get(self._place) or []
        self._elements = [unpacked(one) for one in kept]
        self._kept = bool(kept)

    def _save(self) -> None:
        if self._elements:
            self._state.put(self._place, [packed(one) for one in self._elements])
        elif self._kept:
            self._state.drop(self._place)
        self._kept = bool(self._elements)

    def __bool__(self) -> bool:
        return bool(self._elements)

    def take(self, element: Element, head: int) -> tuple[Element, ...]:
        """One more; gives what passes at once: that results are no more."""
        replaced = set(element.ids[1:])
        if replaced:
            self._elements = [one for one in self._elements if not replaced.intersection(one.ids[:1])]
        if element.withdrawn:
            return (element,)
        if not self._elements:
            self.until = head
        lost = None
        if len(self._elements) < self._step.size:
            self._elements.append(element)
        elif self._step.overflow == "drop_oldest":
            lost = self._elements.pop(0)
            self._elements.append(element)
        else:
            lost = element
        return () if lost is None or len(lost.ids) < 2 else (gone(lost),)

    def retract(self, origin: int) -> None:
        """A record is taken back before its turn came."""
        self._elements = [one for one in self._elements if one.origin != origin]

    def release(self) -> list[Element]:
        """All of them; none waits any more."""
        found, self._elements = self._elements, []
        return found
