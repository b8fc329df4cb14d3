"""One path of the API: what it takes, who may ask, and the function that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from ..refused import Refused
from .schema import check, parsed

__all__ = ["Asked", "Endpoint", "Parameter", "given", "split", "text"]


class Parameter(NamedTuple):
    """A query parameter. `many`: it may stand several times. `json`: its text is JSON."""

    name: str
    schema: Mapping[str, Any]
    description: str
    required: bool = False
    many: bool = False
    json: bool = False


class Asked(NamedTuple):
    """What an endpoint's function is given."""

    biz: Any
    path: dict[str, str]
    query: dict[str, Any]
    body: Any
    scope: str

    def get(self, name: str, default: Any = None) -> Any:
        return self.query.get(name, default)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`scope` is who may ask: "read" (and admin), "admin", or "write" (a write key)."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    answer: Callable[[Asked], Any]
    parameters: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] | None = None
    scope: str = "read"
    parts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", split(self.path))

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        """The path's variables, None where it is another path."""
        if len(parts) != len(self.parts):
            return None
        found = {}
        for mine, theirs in zip(self.parts, parts, strict=True):
            if mine.startswith("{"):
                found[mine[1:-1]] = theirs
            elif mine != theirs:
                return None
        return found


def split(path: str) -> tuple[str, ...]:
    """The parts of a raw path, each unquoted by itself: names may hold slashes."""
    return tuple(unquote(part) for part in path.strip("/").split("/"))


def given(endpoint: Endpoint, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The checked parameters. Raises Refused that lists what is known."""
    known = {parameter.name: parameter for parameter in endpoint.parameters}
    found: dict[str, Any] = {}
    for name, value in pairs:
        parameter = known.get(name)
        if parameter is None:
            takes = ", ".join(known) or "no parameters"
            raise Refused(400, f"there is no parameter {name[:60]!r}; {endpoint.path} takes {takes}")
        value = _json(value, parameter) if parameter.json else parsed(value, parameter.schema, name)
        if parameter.many:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise Refused(400, f"{name} is given twice")
        else:
            found[name] = value
    for parameter in endpoint.parameters:
        if parameter.required and parameter.name not in found:
            raise Refused(400, f"{parameter.name} is missing: {parameter.description}")
    return found


def _json(value: str, parameter: Parameter) -> Any:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"{parameter.name} is JSON: {error.msg}") from error
    check(found, parameter.schema, parameter.name)
    return found


def text(most: int = 200, **more: Any) -> dict[str, Any]:
    """The schema of a text."""
    return {"type": "string", "maxLength": most, **more}
