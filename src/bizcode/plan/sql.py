"""The only place where names become SQL text."""

from __future__ import annotations

from typing import Any

__all__ = ["identifier", "instant", "literal", "pointer"]


def identifier(name: str) -> str:
    """A quoted name of a column or table."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted text, for names that must stand in the SQL: types, files, JSON paths. Values are parameters."""
    return "'" + text.replace("'", "''") + "'"


def pointer(path: tuple[str, ...]) -> str:
    """The JSON pointer of a path, quoted. https://www.rfc-editor.org/rfc/rfc6901"""
    return literal("".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path))


def instant(us: int) -> str:
    """Microseconds since 1970 as a constant that prunes files and row groups."""
    return f"make_timestamptz({int(us)}::BIGINT)"


class Parameters:
    """Values of one statement, numbered in the order in which they are asked for."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"
