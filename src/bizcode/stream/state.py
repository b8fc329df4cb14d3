"""A pipeline's state: in memory between batches, and kept with the position. State space "stream:<name>"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from ..store import Store
    from ..unit import UnitOfWork

__all__ = ["Scoped", "State"]


class State:
    """Values under text keys, written when the unit commits. A value is JSON, or has `plain()` that gives it.
    With no name nothing is kept."""

    def __init__(self, store: Store, name: str | None) -> None:
        self._store = store
        self._space = None if name is None else f"stream:{name}"
        self._values: dict[str, Any] = {}
        self._dirty: set[str] = set()
        self._stored: set[str] = set()
        self._loaders: list[Callable[[], None]] = []
        self.before_save: list[Callable[[], None]] = []
        self._read()

    def _read(self) -> None:
        self._dirty.clear()
        self._values = {}
        if self._space is not None:
            self._values = {key: orjson.loads(kept) for key, kept in self._store.log.scan(self._space)}
        self._stored = set(self._values)

    def loader(self, load: Callable[[], None]) -> None:
        """Call this now, and whenever the state is read again."""
        self._loaders.append(load)
        load()

    def reload(self) -> None:
        """Back to what was committed."""
        self._read()
        for load in self._loaders:
            load()

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._dirty.add(key)

    def drop(self, key: str) -> None:
        if self._values.pop(key, None) is None:
            return
        if key in self._stored:
            self._dirty.add(key)
        else:
            self._dirty.discard(key)

    def items(self, prefix: str) -> list[tuple[str, Any]]:
        return [(key, value) for key, value in self._values.items() if key.startswith(prefix)]

    def save(self, unit: UnitOfWork) -> None:
        """Write what changed, with whatever else the unit commits."""
        for prepare in self.before_save:
            prepare()
        if self._space is not None:
            for key in self._dirty:
                value = self._values.get(key)
                if value is not None:
                    found = value.plain() if hasattr(value, "plain") else value
                    unit.put(self._space, key, orjson.dumps(found, default=str))
                    self._stored.add(key)
                else:
                    unit.put(self._space, key, None)
                    self._stored.discard(key)
        self._dirty.clear()


class Scoped:
    """A part of the state, under a prefix of its own."""

    __slots__ = ("_prefix", "_state")

    def __init__(self, state: State, prefix: str) -> None:
        self._state = state
        self._prefix = prefix

    def get(self, key: str, default: Any = None) -> Any:
        return self._state.get(self._prefix + key, default)

    def put(self, key: str, value: Any) -> None:
        self._state.put(self._prefix + key, value)

    def drop(self, key: str) -> None:
        self._state.drop(self._prefix + key)

    def items(self) -> list[tuple[str, Any]]:
        cut = len(self._prefix)
        return [(key[cut:], value) for key, value in self._state.items(self._prefix)]

    def loader(self, load: Callable[[], None]) -> None:
        self._state.loader(load)
