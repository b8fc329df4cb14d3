"""States kept so that a read costs the events since. State space "snapshot", key = "Order/o1".

A snapshot is JSON with tags for the few other plain values that states hold. A state that would not come
back exactly as it was has no snapshot: a snapshot never changes a result.
"""

from __future__ import annotations

import dataclasses
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from .aggregate import Aggregate

__all__ = ["dump", "restore"]

_TAG = "$"


class _Unkept(Exception):
    pass


def dump(aggregate: Aggregate | None, state: Any, version: int) -> bytes | None:
    """A state as kept, None if it can't be kept exactly."""
    try:
        if aggregate is not None and aggregate.cls is not None:
            if not hasattr(state, "__dict__") or any(
                vars(base).get("__slots__") for base in type(state).__mro__
            ):
                return None
            seen: set[int] = set()
            body = {key: _packed(value, seen) for key, value in vars(state).items()}
        else:
            body = _packed(state, set())
        kept = {"version": version, "code": _code(aggregate), "state": body}
        return orjson.dumps(kept)
    except (_Unkept, TypeError, RecursionError):
        return None


def restore(aggregate: Aggregate | None, kept: bytes) -> tuple[int, Any] | None:
    """(version, fresh state) of a snapshot, None if the reducers have changed since."""
    data = orjson.loads(kept)
    if data["code"] != _code(aggregate):
        return None
    if aggregate is not None and aggregate.cls is not None:
        state: Any = object.__new__(aggregate.cls)
        state.__dict__.update({key: _unpacked(value) for key, value in data["state"].items()})
        return data["version"], state
    return data["version"], _unpacked(data["state"])


def _code(aggregate: Aggregate | None) -> str:
    return "" if aggregate is None else aggregate.code


def _packed(value: Any, seen: set[int]) -> Any:
    """`seen`: the containers met so far. One that stands in two places would come back as two."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind in (list, dict, set):
        if id(value) in seen:
            raise _Unkept
        seen.add(id(value))
    if kind is int:
        return value if -(2**53) < value < 2**53 else {_TAG: "int", "v": str(value)}
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise _Unkept
        return value
    if kind is list:
        return [_packed(item, seen) for item in value]
    if kind is dict:
        if any(type(key) is not str for key in value) or _TAG in value:
            pairs = [[_packed(key, seen), _packed(item, seen)] for key, item in value.items()]
            return {_TAG: "dict", "v": pairs}
        return {key: _packed(item, seen) for key, item in value.items()}
    if kind is tuple:
        return {_TAG: "tuple", "v": [_packed(item, seen) for item in value]}
    if kind in (set, frozenset):
        return {_TAG: kind.__name__, "v": [_packed(item, seen) for item in value]}
    if kind is datetime:
        if value.tzinfo is not None and value.fold:
            raise _Unkept
        kept = value.isoformat()
        if datetime.fromisoformat(kept) != value or type(value.tzinfo) not in (type(None), _UTC):
            raise _Unkept
        return {_TAG: "datetime", "v": kept}
    if kind in (date, Decimal, UUID):
        return {_TAG: kind.__name__, "v": str(value)}
    raise _Unkept


_UTC = type(datetime.now().astimezone().tzinfo)
_MAKE: dict[str, Any] = {
    "int": int,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
}
_COLLECT: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if isinstance(value, dict):
        tag = value.get(_TAG)
        if tag is None:
            return {key: _unpacked(item) for key, item in value.items()}
        if tag == "dict":
            return {_unpacked(key): _unpacked(item) for key, item in value["v"]}
        if tag in _COLLECT:
            return _COLLECT[tag](_unpacked(item) for item in value["v"])
        return _MAKE[tag](value["v"])
    return value


def fields_of(state: Any) -> dict[str, Any]:
    """The fields of a state, whatever it is."""
    if isinstance(state, dict):
        return dict(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return {f.name: getattr(state, f.name) for f in dataclasses.fields(state)} | dict(
            getattr(state, "__dict__", {})
        )
    if hasattr(state, "__dict__"):
        return {key: value for key, value in vars(state).items() if not key.startswith("_")}
    return {"value": state}
