"""A pipeline's state: in memory between batches, and kept with the position. State space "stream:<name>"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from ..store import Store
    from ..unit import UnitOfWork

__all__ = ["State"]


class State:
    """Values under text keys. With no name nothing is kept."""

    def __init__(self, store: Store, name: str | None) -> None:
        self._store = store
        self._space = None if name is None else f"stream:{name}"
        self._values: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self.reload()

    def reload(self) -> None:
        """Back to what was committed."""
        self._dirty.clear()
        self._values = {}
        if self._space is not None:
            self._values = {key: orjson.loads(kept) for key, kept in self._store.log.scan(self._space)}

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._dirty.add(key)

    def drop(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            self._dirty.add(key)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self._values if key.startswith(prefix)]

    def save(self, unit: UnitOfWork) -> None:
        """Write what changed, with whatever else the unit commits."""
        if self._space is not None:
            for key in self._dirty:
                value = self._values.get(key)
                kept = None if value is None else orjson.dumps(value, default=str)
                unit.put(self._space, key, kept)
        self._dirty.clear()

    def size(self) -> int:
        """How many values there are."""
        return len(self._values)
