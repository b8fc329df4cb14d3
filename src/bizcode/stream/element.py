"""What flows through a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from ..errors import InvalidValue
from ..plan.fields import MISSING, Field, as_field, read
from ..record import Record, Row, pack, unpack

__all__ = [
    "MISSING",
    "Element",
    "Late",
    "as_value",
    "field_of",
    "gone",
    "index_of",
    "kept_of",
    "key_field",
    "key_text",
    "named",
    "packed",
    "plain",
    "unpacked",
    "value_of",
]


class Late(Exception):
    """An element came after its windows were closed for good."""


@dataclass(frozen=True, slots=True)
class Element:
    """A value with its event time (microseconds), its place among equals, and its key once there is one.

    `origin` is the position of the record that it came from: a retraction takes back by it. `ids` are those of
    a window's result: its own, then those of the results that it replaces. `withdrawn`: there is no result
    any more, only the replaced ones go.
    """

    value: Any
    time: int
    order: int
    origin: int | None = None
    key: Any = None
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    withdrawn: bool = False

    def with_value(self, value: Any) -> Element:
        return replace(self, value=as_value(value))


def gone(element: Element) -> Element:
    """In place of a result that is no more: what it replaced goes."""
    return replace(element, value=None, ids=("", *element.ids[1:]), withdrawn=True)


def as_value(value: Any) -> Any:
    """A dict reads both ways; anything else is passed on as it is."""
    if type(value) is dict:
        return Row(value)
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


def kept_of(value: Any) -> Any:
    """A value as JSON, to be had again by `value_of`: a record with all that it is, fields as they are."""
    if isinstance(value, Record):
        return ["record", *pack(value)]
    return dict(value) if isinstance(value, Mapping) else ["value", value]


def value_of(kept: Any) -> Any:
    """The value that was kept."""
    if isinstance(kept, list):
        return unpack(kept[1:]) if kept[0] == "record" else kept[1]
    return as_value(kept)


def packed(element: Element) -> dict[str, Any]:
    """An element as JSON, from which `unpacked` makes it again."""
    given = element.value
    return {
        "value": [_each(part, kept_of) for part in given] if isinstance(given, tuple) else kept_of(given),
        "time": element.time,
        "order": element.order,
        "origin": element.origin,
        "key": element.key,
        "names": list(element.names),
        "ids": list(element.ids),
        "withdrawn": element.withdrawn,
    }


def unpacked(kept: dict[str, Any], pair: bool = False) -> Element:
    """The element that was packed; `pair`: its value is what a join gives its function."""
    value = tuple(_each(part, value_of, pair) for part in kept["value"]) if pair else value_of(kept["value"])
    names = tuple(kept["names"])
    key = tuple(kept["key"]) if len(names) > 1 else kept["key"]
    found = (value, kept["time"], kept["order"], kept["origin"], key, names, tuple(kept["ids"]))
    return Element(*found, withdrawn=kept["withdrawn"])


def _each(part: Any, made: Callable[[Any], Any], kept: bool = False) -> Any:
    """One side of what a join gives: an element, None, or a list of them."""
    several = isinstance(part, list) and not (kept and part and part[0] in ("record", "value"))
    return None if part is None else [made(one) for one in part] if several else made(part)


def field_of(element: Element, name: str) -> Any:
    """A field of an element by name, MISSING if there is none."""
    return read(element.value, as_field(name))


def key_field(name: str) -> Field:
    """What a name in `key_by` means: a property; of entities' events the entity itself too."""
    return Field((name,), own=True) if name in ("entity", "version") else as_field(name)


def key_text(key: Any) -> str:
    """A key as text, the same for equal keys."""
    return orjson.dumps(key, default=str, option=orjson.OPT_SORT_KEYS).decode()


def index_of(key: Any) -> Any:
    """A key as something to look up by: True is not 1, and a list can be looked up too."""
    return key if type(key) is str else (key_text(key),)


def named(names: tuple[str, ...], key: Any) -> dict[str, Any]:
    """A key's parts by the names of its fields."""
    if len(names) == 1:
        return {names[0]: key}
    return dict(zip(names, key, strict=True)) if names else {}
