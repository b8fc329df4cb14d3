"""What `subscribe` gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Subscription"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A running subscription; `unsubscribe()` ends it, twice is fine."""

    id: str
    _end: Callable[[], None]

    def unsubscribe(self) -> None:
        """No call begins after this returns."""
        self._end()

    def __await__(self):
        return self
        yield

    def __repr__(self) -> str:
        return f"Subscription(id={self.id!r})"
