"""How one field is read from one piece of the records: typed columns of sealed files, or JSON of the tail.

A piece knows for each path which JSON types occur in it, so an expression names only what can be there.
Types: "bool", "int", "double", "text", "json" (lists and objects), "null"; what is unsealed also tells "object".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import InvalidQuery
from .fields import Field
from .sql import identifier, pointer

__all__ = ["ColumnPiece", "HoldsObjects", "JsonPiece", "Piece", "candidates", "of_objects"]

NUMBERS = frozenset(("int", "double"))
_SQL = {"bool": "BOOLEAN", "int": "BIGINT", "double": "DOUBLE", "text": "VARCHAR", "json": "VARCHAR"}
_JSON = {
    "bool": ("BOOLEAN",),
    "int": ("BIGINT", "UBIGINT"),
    "double": ("DOUBLE",),
    "text": ("VARCHAR",),
    "json": ("ARRAY", "OBJECT"),
}


def candidates(path: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Where a dotted name may lie: nested, or as one property with dots in its name."""
    return (path, (".".join(path),)) if len(path) > 1 else (path,)


class Piece(Protocol):
    """Some of the records, all read the same way."""

    def types(self, path: tuple[str, ...]) -> frozenset[str]:
        """The JSON types that may occur at the path."""
        ...

    def typed(self, path: tuple[str, ...], type: str) -> str:
        """SQL of the value where it has that type, else NULL. "double" widens ints too if asked with int absent."""
        ...

    def lists(self, path: tuple[str, ...]) -> str:
        """SQL of the JSON text where the value is a list; what else it gives is no list's text."""
        ...

    def exists(self, path: tuple[str, ...]) -> str:
        """SQL: present and not null."""
        ...

    def null(self, path: tuple[str, ...]) -> str:
        """SQL: present, and null."""
        ...

    def own(self, name: str) -> str | None:
        """SQL of one of the record's own attributes, None where this kind has none."""
        ...


def _json_typed(column: str, path: tuple[str, ...], type: str) -> str:
    where = pointer(path)
    names = ", ".join(f"'{name}'" for name in _JSON[type])
    if type == "json":
        value = f"CAST(json_extract({column}, {where}) AS VARCHAR)"
    elif type == "text":
        value = f"json_extract_string({column}, {where})"
    else:
        value = f"TRY_CAST(json_extract_string({column}, {where}) AS {_SQL[type]})"
    return f"CASE WHEN json_type({column}, {where}) IN ({names}) THEN {value} END"


class HoldsObjects(InvalidQuery):
    """A value was asked for where objects are."""


def of_objects(path: tuple[str, ...]) -> HoldsObjects:
    """What is raised where a value is asked for and objects are found."""
    name = ".".join(path)
    return HoldsObjects(f"{name} holds objects: name one of their fields, like {name}.name")


@dataclass(frozen=True, slots=True)
class JsonPiece:
    """Unsealed records, whose properties are JSON text in the column `data`."""

    known: dict[tuple[str, ...], frozenset[str]] = field(default_factory=dict)
    column: str = "data"
    owns: dict[str, str] = field(default_factory=dict)

    def types(self, path: tuple[str, ...]) -> frozenset[str]:
        found = self.known[path]
        return found | {"json"} if "object" in found else found

    def typed(self, path: tuple[str, ...], type: str) -> str:
        if type == "json" and "object" in self.known[path]:
            raise of_objects(path)  # as when it is sealed, and its fields are columns
        return _json_typed(self.column, path, type)

    def lists(self, path: tuple[str, ...]) -> str:
        return _json_typed(self.column, path, "json")

    def exists(self, path: tuple[str, ...]) -> str:
        return f"coalesce(json_type({self.column}, {pointer(path)}) <> 'NULL', FALSE)"

    def null(self, path: tuple[str, ...]) -> str:
        return f"coalesce(json_type({self.column}, {pointer(path)}) = 'NULL', FALSE)"

    def own(self, name: str) -> str | None:
        return self.owns.get(name)


@dataclass(frozen=True, slots=True)
class ColumnPiece:
    """Sealed records: (path, type) -> physical column; what has none may stand in `rest`."""

    columns: dict[tuple[tuple[str, ...], str], str]
    rest: dict[tuple[str, ...], frozenset[str]] = field(default_factory=dict)
    children: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    owns: dict[str, str] = field(default_factory=dict)

    def types(self, path: tuple[str, ...]) -> frozenset[str]:
        found = {type for (where, type) in self.columns if where == path}
        found |= self.rest.get(path, frozenset())
        if self.children.get(path):
            found.add("json")
        return frozenset(found)

    def typed(self, path: tuple[str, ...], type: str) -> str:
        if type == "json" and self.children.get(path):
            raise of_objects(path)
        return self._stored(path, type)

    def lists(self, path: tuple[str, ...]) -> str:
        return self._stored(path, "json")  # an object with fields lies in columns of its own

    def _stored(self, path: tuple[str, ...], type: str) -> str:
        parts = []
        column = self.columns.get((path, type))
        if column is not None:
            parts.append(identifier(column))
        if type in self.rest.get(path, ()):
            parts.append(_json_typed("rest", path, type))
        return _coalesce(parts)

    def exists(self, path: tuple[str, ...]) -> str:
        parts = [f"{identifier(c)} IS NOT NULL" for (where, _), c in self.columns.items() if where == path]
        parts += [f"{identifier(c)} IS NOT NULL" for c in self.children.get(path, ())]
        if self.rest.get(path, frozenset()) - {"null"}:
            parts.append(f"coalesce(json_type(rest, {pointer(path)}) <> 'NULL', FALSE)")
        return f"({' OR '.join(parts)})" if parts else "FALSE"

    def null(self, path: tuple[str, ...]) -> str:
        if "null" in self.rest.get(path, ()):
            return f"coalesce(json_type(rest, {pointer(path)}) = 'NULL', FALSE)"
        return "FALSE"

    def own(self, name: str) -> str | None:
        return self.owns.get(name)


def _coalesce(parts: list[str]) -> str:
    if not parts:
        return "NULL"
    return parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})"


def types(piece: Piece, target: Field) -> frozenset[str]:
    """The JSON types that may occur at a field of a piece, over all places where it may lie."""
    return frozenset().union(*(piece.types(path) for path in candidates(target.path)))


def absent(piece: Piece, path: tuple[str, ...]) -> str:
    """SQL: the path is missing altogether."""
    if not piece.types(path):
        return "TRUE"
    return f"NOT {piece.exists(path)} AND NOT {piece.null(path)}"


def _read(piece: Piece, path: tuple[str, ...], before: str, type: str) -> str:
    """A typed value of a place, which counts only where the places before it are missing."""
    value = piece.typed(path, type)
    return value if before == "TRUE" else f"CASE WHEN {before} THEN {value} END"


def _places(piece: Piece, target: Field) -> list[tuple[tuple[str, ...], str]]:
    found = []
    before = "TRUE"
    for path in candidates(target.path):
        if piece.types(path):
            found.append((path, before))
            before = absent(piece, path)
    return found


def number(piece: Piece, target: Field, integers: bool) -> str:
    """SQL of the field as BIGINT (if only integers occur anywhere) or DOUBLE, NULL where it is no number."""
    parts = []
    for path, before in _places(piece, target):
        found = piece.types(path)
        if "double" in found:
            parts.append(_read(piece, path, before, "double"))
        if "int" in found:
            value = _read(piece, path, before, "int")
            parts.append(value if integers else f"CAST({value} AS DOUBLE)")
    return _coalesce(parts) if parts else f"CAST(NULL AS {'BIGINT' if integers else 'DOUBLE'})"


def text(piece: Piece, target: Field) -> str:
    """SQL of the field as VARCHAR, NULL where it is no text."""
    return _of_type(piece, target, "text")


def boolean(piece: Piece, target: Field) -> str:
    """SQL of the field as BOOLEAN, NULL where it is none."""
    return _of_type(piece, target, "bool")


def _of_type(piece: Piece, target: Field, type: str) -> str:
    parts = [
        _read(piece, path, before, type)
        for path, before in _places(piece, target)
        if type in piece.types(path)
    ]
    return _coalesce(parts) if parts else f"CAST(NULL AS {_SQL[type]})"


def mixed(piece: Piece, target: Field) -> str:
    """SQL of the field as the JSON text of its value, whole numbers as such; NULL where missing or null."""
    parts = []
    for path, before in _places(piece, target):
        found = piece.types(path)
        for type in ("text", "int", "double", "bool", "json"):
            if type not in found:
                continue
            value = _read(piece, path, before, type)
            if type == "json":
                parts.append(value)
            elif type == "double":
                whole = f"{value} = trunc({value}) AND abs({value}) < 9007199254740992"
                parts.append(
                    f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) "
                    f"ELSE CAST(to_json({value}) AS VARCHAR) END"
                )
            else:
                parts.append(f"CAST(to_json({value}) AS VARCHAR)")
    return _coalesce(parts) if parts else "CAST(NULL AS VARCHAR)"


def one_type(found: Iterable[str]) -> str:
    """Which single reading serves a set of types: "text", "int", "double", "bool", or "mixed"."""
    present = set(found) - {"null"}
    if present <= {"text"}:
        return "text"
    if present <= {"int"}:
        return "int"
    if present <= NUMBERS:
        return "double"
    if present <= {"bool"}:
        return "bool"
    return "mixed"
