"""`biz.on`: call a function with each record of a type, durably."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import values
from .consume import Pattern
from .errors import AlreadyExists, InvalidValue
from .record import ENTITY, EVENT, MEASURE, Stored

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Names", "On", "pattern_of", "qualified_name"]


def pattern_of(parts: tuple[str, ...]) -> Pattern:
    """Which records a dotted path means: ("track", "Signup"), ("measure", "revenue"), ("Order", "created"),
    ("*", "created"), ("Order", "*"). Entities' events include those that a stream emitted."""
    if parts[0] in ("track", "measure"):
        kind = EVENT if parts[0] == "track" else MEASURE
        names = None if parts[1] == "*" else frozenset((parts[1],))
        return Pattern(frozenset((kind,)), names)
    type, event = parts
    kinds = frozenset((ENTITY,))
    if type != "*" and event != "*":
        return Pattern(kinds, frozenset((f"{type}.{event}",)))

    def test(row: Stored) -> bool:
        found, _, name = row.name.partition(".")
        return (type in ("*", found)) and (event in ("*", name))

    return Pattern(kinds, None, test)


def qualified_name(function: Callable[..., Any], taken: set[str]) -> str:
    """A function's module and qualified name, numbered from the second of that name on."""
    module = getattr(function, "__module__", None) or "function"
    plain = f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    name, n = plain, 2
    while name in taken:
        name, n = f"{plain}#{n}", n + 1
    taken.add(name)
    return name


@dataclass(frozen=True, slots=True)
class _Path:
    store: Store
    parts: tuple[str, ...]

    def __getattr__(self, name: str) -> _Path:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> _Path:
        if len(self.parts) >= 2:
            raise InvalidValue(f"biz.on takes a type and an event, like biz.on.Customer.signup, not {name!r}")
        return _Path(self.store, (*self.parts, values.name(name, "an event")))

    def __call__(
        self, function: Callable[..., Any] | None = None, *, name: str | None = None, since: Any = None
    ) -> Any:
        """Register a handler, as a decorator with or without arguments.

        Args:
            function: called with each record, sync or async; its writes commit with its position.
            name: what its position is kept under; else the function's module and qualified name.
            since: "start" or an instant to begin earlier than now.
        """
        if len(self.parts) != 2:
            raise InvalidValue(
                f"biz.on takes a type and an event, like biz.on.Customer.signup, not {self.parts[0]!r} alone: "
                f'each event of it is biz.on[{self.parts[0]!r}]["*"]'
            )
        if function is None:
            return lambda given: self(given, name=name, since=since)
        if not callable(function):
            raise InvalidValue(f"a handler is a function, not {function!r}")
        found = _found(self.store)
        if name is None:
            name = qualified_name(function, found.taken)
        else:
            meaning = f"{qualified_name(function, set())} (on {'.'.join(self.parts)})"
            found.claim(values.name(name, "a handler"), meaning)
        self.store.consumers.follow(f"on:{name}", pattern_of(self.parts), function=function, since=since)
        return function

    def __repr__(self) -> str:
        return f"biz.on.{'.'.join(self.parts)}"


class Names:
    """The names used so far in an opened store: of functions, and those given with what they stand for."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._given: dict[str, Any] = {}

    def claim(self, name: str, meaning: Any) -> None:
        """Take a name that was given. Raises AlreadyExists if it stands for something else."""
        if self._given.setdefault(name, meaning) != meaning:
            raise AlreadyExists(f"the name {name!r} is taken by {self._given[name]}: name= must be its own")


_names: dict[int, Names] = {}


def _found(store: Store) -> Names:
    return _names.setdefault(id(store), Names())


class On:
    """`biz.on.Customer.signup`, `biz.on["*"].created`, `biz.on.track.Signup`, `biz.on.measure.revenue`; a
    record's type may also be given whole: `biz.on["Customer.signup"]`, `biz.on["Order.*"]`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        _names.pop(id(store), None)

    def __getattr__(self, name: str) -> _Path:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Path(self._store, (name,))

    def __getitem__(self, name: str) -> _Path:
        type, dot, event = values.name(name, "a type").partition(".")
        path = _Path(self._store, (values.name(type, "a type"),))
        return path[event] if dot else path

    def __repr__(self) -> str:
        return "biz.on"
