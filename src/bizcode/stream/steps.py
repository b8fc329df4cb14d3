"""The steps of a pipeline: frozen descriptions of what is done to each element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..plan.aggregation import Aggregation
from ..plan.condition import Condition

__all__ = [
    "Aggregate",
    "Buffer",
    "Enrich",
    "Filter",
    "FlatMap",
    "Join",
    "KeyBy",
    "Map",
    "Reduce",
    "Sink",
    "Step",
    "Throttle",
    "Window",
]


@dataclass(frozen=True, slots=True)
class Filter:
    condition: Condition


@dataclass(frozen=True, slots=True)
class Map:
    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class FlatMap:
    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Enrich:
    function: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class KeyBy:
    """By fields' names or functions; one gives the value itself as the key, several a tuple."""

    parts: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            part if isinstance(part, str) else "key" if n == 0 else f"key{n + 1}"
            for n, part in enumerate(self.parts)
        )


@dataclass(frozen=True, slots=True)
class Window:
    """kind "tumbling", "sliding" or "session"; sizes in microseconds, or calendar months and days by `unit`."""

    kind: str
    size: int
    slide: int
    unit: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Aggregate:
    compute: Mapping[str, Aggregation]
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Reduce:
    function: Callable[[Any, Any], Any]
    initial: Any
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    micros: int


@dataclass(frozen=True, slots=True)
class Buffer:
    size: int
    overflow: str


@dataclass(frozen=True, slots=True)
class Join:
    """Two pipelines by key; kind "inner", "left" or "group"."""

    left: Any
    right: Any
    kind: str
    within: int
    function: Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class Sink:
    """kind "track", "measure", "view", "action" or "function"."""

    kind: str
    name: str
    field: str | None = None
    type: str | None = None
    function: Callable[[Any], Any] | None = None


Step = Filter | Map | FlatMap | Enrich | KeyBy | Aggregate | Reduce | Throttle | Buffer | Sink
