"""What can be stored: JSON's values, and a few of Python's that have one plain form in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from .errors import InvalidName, InvalidValue

__all__ = ["decode", "encode", "name", "number", "plain"]

_DEPTH = 100
_LOW, _HIGH = -(2**63), 2**63
_STORABLE = (
    "text, numbers, booleans, None, lists, mappings, datetime, date, Decimal, UUID, Enum and dataclasses"
)
_EASY = frozenset((str, bool, type(None)))
_dumps = orjson.dumps


def encode(data: Mapping[str, Any], tz: ZoneInfo) -> tuple[dict[str, Any], str]:
    """A checked copy of the properties and its JSON text.

    Args:
        data: the properties.
        tz: where naive datetimes are read.
    Raises:
        InvalidValue: names the path of what can't be stored.

    >>> from bizcode import when
    >>> encode({"amount": 5, "plan": "pro"}, when.zone("UTC"))
    ({'amount': 5, 'plan': 'pro'}, '{"amount":5,"plan":"pro"}')
    """
    easy = _EASY
    for key, value in data.items():
        if type(key) is not str:
            break
        kind = type(value)
        if kind in easy:
            continue
        if kind is int:
            if _LOW <= value < _HIGH:
                continue
            break
        if kind is float and -math.inf < value < math.inf:
            continue
        break
    else:
        copy = dict(data)
        try:
            return copy, _dumps(copy).decode()
        except TypeError:
            pass  # a lone surrogate: the slow path names where it is
    copy = plain(data, tz)
    return copy, _dumps(copy).decode()


def plain(value: Any, tz: ZoneInfo, path: str = "") -> Any:
    """A JSON value from anything that can be stored. Raises InvalidValue with the path."""
    return _plain(value, tz, path, 0)


def _plain(value: Any, tz: ZoneInfo, path: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, tz, path, depth + 1)
    if isinstance(value, str):
        return _text(str(value), path)
    if isinstance(value, int):
        if not _LOW <= value < _HIGH:
            raise InvalidValue(f"{_at(path)}{int(value)} doesn't fit 64 bits: store it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(f"{_at(path)}{value!r} is no number that can be stored: use None for unknown")
        return float(value)
    if depth > _DEPTH:
        raise InvalidValue(f"{_at(path)}nested deeper than {_DEPTH} levels, or contains itself")
    if isinstance(value, Mapping):
        copy = {}
        for key, item in value.items():
            if isinstance(key, Enum):
                key = key.value
            if not isinstance(key, str):
                raise InvalidValue(f"{_at(path)}a property is named by text, not by {key!r}")
            key = _text(str(key), path)
            copy[key] = _plain(item, tz, f"{path}.{key}" if path else key, depth + 1)
        return copy
    if isinstance(value, (list, tuple)):
        return [_plain(item, tz, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]
    if isinstance(value, datetime):
        try:
            aware = value if value.tzinfo is not None else value.replace(tzinfo=tz)
            return aware.astimezone(UTC).isoformat()
        except OverflowError as error:
            raise InvalidValue(f"{_at(path)}{value!r} is outside the years 1 to 9999 in UTC") from error
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _decimal(value, path)
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in fields(value)}, tz, path, depth + 1)
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(getattr(value, "item")(), tz, path, depth + 1)  # noqa: B009
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise InvalidValue(f"{_at(path)}bytes can't be stored: use text, for example value.hex()")
    raise InvalidValue(f"{_at(path)}{type(value).__name__} can't be stored: storable are {_STORABLE}")


def _text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"{_at(path)}the text has half a surrogate pair at {error.start}: no valid Unicode"
        ) from None
    return text


def _decimal(value: Decimal, path: str) -> int | float:
    if not value.is_finite():
        raise InvalidValue(f"{_at(path)}{value!r} is no number that can be stored: use None for unknown")
    if value == value.to_integral_value() and _LOW <= value < _HIGH:
        return int(value)
    number = float(value)
    if math.isinf(number):
        raise InvalidValue(f"{_at(path)}{value} doesn't fit a double: store it as text")
    return number


def _at(path: str) -> str:
    return f"{path}: " if path else ""


def number(value: Any, what: str = "a measurement") -> int | float:
    """The number measured. Raises InvalidValue for anything but a finite int, float or Decimal.

    >>> number(3), number(2.5)
    (3, 2.5)
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InvalidValue(f"{what} takes an int, float or Decimal, not {value!r}")
    if isinstance(value, Decimal):
        return _decimal(value, what)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(f"{what} takes a finite number, not {value!r}")
        return float(value)
    if not _LOW <= value < _HIGH:
        raise InvalidValue(f"{what}: {value} doesn't fit 64 bits")
    return int(value)


def name(text: Any, what: str) -> str:
    """A name of an event, metric, view, ...: text of 1 to 200 characters, not blank, no control characters.

    Raises:
        InvalidName: anything else.
    """
    if not isinstance(text, str):
        raise InvalidName(f"{what} is named by text, not by {text!r}")
    if not text.strip():
        raise InvalidName(f"{what} needs a name that is not blank")
    if len(text) > 200:
        raise InvalidName(f"the name of {what} has at most 200 characters, {text[:20]!r}... has {len(text)}")
    if not text.isprintable() and any(
        ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text
    ):
        raise InvalidName(f"the name of {what} has control characters: {text!r}")
    return text


def decode(json: str | bytes) -> dict[str, Any]:
    """The properties of a stored JSON text."""
    return orjson.loads(json)
