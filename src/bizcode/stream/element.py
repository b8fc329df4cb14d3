"""What flows through a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidValue
from ..record import Record, Row

__all__ = ["Element", "as_value"]


@dataclass(frozen=True, slots=True)
class Element:
    """A value with its event time (microseconds), its place among equals, and its key once there is one.

    `origin` is the position of the record that it came from: a retraction takes back by it.
    """

    value: Any
    time: int
    order: int
    origin: int | None = None
    key: Any = None
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    def with_value(self, value: Any) -> Element:
        return replace(self, value=as_value(value))


def as_value(value: Any) -> Any:
    """A dict reads both ways; anything else is passed on as it is."""
    if isinstance(value, (Record, Row)):
        return value
    if isinstance(value, Mapping):
        return Row(value)
    return value


def plain(value: Any) -> Any:
    """A value's fields as a dict, for keeping and for sinks."""
    if isinstance(value, Record):
        return value.data if value._value is None else {**value.data, "value": value._value}
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidValue(f"this sink takes elements with fields, not {value!r}")
