"""Answers as JSON: instants as ISO text, durations in seconds, mappings as lists of key and value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from ...record import Record, Row

__all__ = ["dumps", "groups", "plain"]


def plain(value: Any) -> Any:
    """A result, or a part of one, as JSON's types; NaN and infinity are null."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Record):
        return record(value)
    if isinstance(value, Row):
        return {str(key): plain(dict.__getitem__(value, key)) for key in dict.keys(value)}
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return _object(value)


def _object(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Decimal):
        return plain(float(value))
    known = getattr(value, "__dict__", None)
    if isinstance(known, dict):
        return {key: plain(item) for key, item in known.items() if not key.startswith("_")}
    return str(value)


def record(value: Record) -> dict[str, Any]:
    """One record of the log."""
    found = {
        "position": value.position,
        "id": value.id,
        "type": value.type,
        "timestamp": value.timestamp.isoformat(),
        "user": value.user,
        "data": plain(value.data),
    }
    if value._entity is not None:
        found |= {"entity": value._entity, "version": value._version}
    if value._value is not None:
        found["value"] = plain(value._value)
    experiments = getattr(value, "experiments", None) if value._experiments else None
    if experiments:
        found["experiments"] = experiments
    return found


def _key(key: Any) -> str:
    return key if isinstance(key, str) else " | ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def groups(found: Any, by: list[str], limit: int | None = None) -> dict[str, Any]:
    """A result, grouped or not: `{"result": 42}`, or with a list of `{"key": [...], "value": ...}`."""
    if not by or not isinstance(found, Mapping):
        return {"result": plain(found)}
    rows = []
    for key, value in found.items():
        if limit is not None and len(rows) == limit:
            return {"result": rows, "by": by, "truncated": True}
        parts = key if isinstance(key, tuple) else (key,)
        rows.append({"key": [datetime_or(part) for part in parts], "value": plain(value)})
    return {"result": rows, "by": by, "truncated": False}


def datetime_or(part: Any) -> Any:
    return part.isoformat() if isinstance(part, datetime) else plain(part)


def dumps(value: Any) -> bytes:
    """JSON text; a lone surrogate of a stored text is replaced rather than refused."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        import json

        return json.dumps(value, ensure_ascii=True, default=str).encode()
