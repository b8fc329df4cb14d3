"""One step that reads and writes state and records: within the open `biz.do`, or a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .log import Transaction
from .unit import UnitOfWork

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Room", "kept", "within"]


class Room:
    """State and records as the step sees them."""

    def __init__(self, store: Store, holder: UnitOfWork | Transaction) -> None:
        self.store = store
        self._holder = holder

    def get(self, space: str, key: str) -> bytes | None:
        """What is kept under a key; within `biz.do` it must then hold until the commit."""
        return self._holder.get(space, key)

    def put(self, space: str, key: str, value: bytes | None) -> None:
        """Keep something under a key; None deletes."""
        if value is not None or isinstance(self._holder, UnitOfWork):
            self._holder.put(space, key, value)  # type: ignore[arg-type]
        else:
            self._holder.delete(space, key)

    def append(self, drafted: tuple[Any, dict[str, Any]]) -> None:
        """Append what `writer.draft` gave."""
        if isinstance(self._holder, UnitOfWork):
            self.store.writer.write(*drafted)
        else:
            self._holder.append([drafted[0]])


def within(store: Store, step: Callable[[Room], Any]) -> Any:
    """What the step gives: all of it is committed, or nothing."""
    unit = store.unit()
    if unit is not None:
        return step(Room(store, unit))
    with store.log.transaction() as tx:
        return step(Room(store, tx))


def kept(store: Store, space: str) -> dict[str, bytes]:
    """All that is kept in a space, as the open `biz.do` sees it, by key."""
    found: dict[str, bytes | None] = dict(store.log.scan(space))
    unit = store.unit()
    if unit is not None:
        found |= unit.written(space)
    return {key: value for key, value in sorted(found.items()) if value is not None}
