"""What a body or parameter may be, as JSON Schema: the part of it that the OpenAPI document uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..refused import Refused

__all__ = ["check", "parsed"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def check(value: Any, schema: Mapping[str, Any], path: str = "the body") -> None:
    """Raises Refused that names the place and says what would be right."""
    choices = schema.get("anyOf")
    if choices is not None:
        _any(value, choices, path)
        return
    kind = schema.get("type")
    if kind is not None:
        _type(value, kind, path)
    if "enum" in schema and value not in schema["enum"]:
        raise Refused(400, f"{path} is one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, str):
        _length(len(value), schema.get("minLength"), schema.get("maxLength"), path, "characters")
    elif isinstance(value, list):
        _length(len(value), schema.get("minItems"), schema.get("maxItems"), path, "items")
        if "items" in schema:
            for n, item in enumerate(value):
                check(item, schema["items"], f"{path}[{n}]")
    elif isinstance(value, dict):
        _object(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            raise Refused(400, f"{path} is from {low} to {high}, not {value}")


def _any(value: Any, choices: Any, path: str) -> None:
    said = []
    for choice in choices:
        try:
            check(value, choice, path)
            return
        except Refused as error:
            said.append(error.message)
    raise Refused(400, "; or ".join(said))


def _type(value: Any, kind: str, path: str) -> None:
    fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        raise Refused(400, f"{path} is {_WORDS[kind]}")


def _length(size: int, low: int | None, high: int | None, path: str, what: str) -> None:
    if (low is not None and size < low) or (high is not None and size > high):
        raise Refused(400, f"{path} has from {low or 0} to {high} {what}, not {size}")


def _object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> None:
    known = schema.get("properties")
    for name in schema.get("required", ()):
        if name not in value:
            raise Refused(400, f"{path} needs {name!r}")
    if known is None:
        return
    for name, item in value.items():
        if name in known:
            check(item, known[name], f"{path}.{name}")
        elif schema.get("additionalProperties") is False:
            raise Refused(400, f"{path} has no {name[:60]!r}; it takes {', '.join(known)}")


def parsed(text: str, schema: Mapping[str, Any], path: str) -> Any:
    """A parameter's value from its text. Raises Refused."""
    kind = schema.get("type")
    value: Any = text
    if kind in ("integer", "number"):
        try:
            value = int(text) if kind == "integer" and len(text) < 20 else float(text)
        except ValueError as error:
            raise Refused(400, f"{path} is {_WORDS[kind]}, not {text[:40]!r}") from error
        if value != value or value in (float("inf"), float("-inf")):
            raise Refused(400, f"{path} is {_WORDS[kind]}, not {text[:40]!r}")
    elif kind == "boolean":
        if text not in ("true", "false"):
            raise Refused(400, f"{path} is true or false, not {text[:40]!r}")
        value = text == "true"
    check(value, schema, path)
    return value
