"""Names of what a record holds: `this.amount`, `prop("month")`, `address.city`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidQuery
from ..record import Record

__all__ = ["MISSING", "OWN", "Field", "Prop", "as_field", "field", "prop", "read", "this"]

OWN = frozenset(("id", "type", "timestamp", "position", "user", "entity", "version", "value"))
"""A record's own attributes, which win over properties where it is read by attribute."""

_FALLBACK = frozenset(("id", "timestamp", "position", "user", "event", "value"))
"""Own attributes that a plain name in `where` means when the record has no such property."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class Field:
    """A place in a record: `this.address.city`. Comparing it gives a condition.

    `own` says that the record's own attribute of that name is meant (`this.timestamp`).

    >>> from bizcode import this
    >>> (this.amount >= 100) & ~this.plan.in_(["free"])
    ((this.amount >= 100) & ~(this.plan.in_(('free',))))
    """

    __slots__ = ("_own", "_path", "_raw")

    def __init__(self, path: tuple[str, ...], own: bool = False, raw: bool = False) -> None:
        object.__setattr__(self, "_path", path)
        object.__setattr__(self, "_own", own)
        object.__setattr__(self, "_raw", raw)

    @property
    def path(self) -> tuple[str, ...]:
        return self._path

    @property
    def own(self) -> bool:
        return self._own

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a field can't be changed")

    def __getattr__(self, name: str) -> Field:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Field:
        if not isinstance(name, str) or not name:
            raise InvalidQuery(f"a property is named by text, not {name!r}")
        return Field((*self._path, name), own=not self._path and name in OWN)

    def __hash__(self) -> int:
        return hash((self._path, self._own))

    def __eq__(self, other: object) -> Any:
        return self._compare("eq", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("ne", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare("gte", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("lte", other)

    def in_(self, values: Any) -> Any:
        """The value is one of these."""
        return self._compare("in", values)

    def not_in(self, values: Any) -> Any:
        """The value is none of these, or missing."""
        return self._compare("not_in", values)

    def between(self, low: Any, high: Any) -> Any:
        """low <= value <= high."""
        return self._compare("between", (low, high))

    def contains(self, value: Any) -> Any:
        """A text that contains this text, or a list with this element."""
        return self._compare("contains", value)

    def startswith(self, text: str) -> Any:
        return self._compare("startswith", text)

    def endswith(self, text: str) -> Any:
        return self._compare("endswith", text)

    def exists(self, present: bool = True) -> Any:
        """Present and not null."""
        return self._compare("exists", present)

    def _compare(self, operator: str, value: Any) -> Any:
        from .condition import compare

        return compare(self, operator, value)

    def __bool__(self) -> bool:
        raise InvalidQuery(f"{self} is a property, not a condition: compare it, for example {self} == 1")

    def __iter__(self) -> Any:
        raise TypeError(f"{self} can't be iterated")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise InvalidQuery(
            f"{self} is a property: unknown operator {self._path[-1] if self._path else 'this'!r}; "
            "use == != > >= < <= in_ not_in between contains startswith endswith exists"
        )

    def __repr__(self) -> str:
        return ".".join(("this", *self._path))

    def __str__(self) -> str:
        return ".".join(self._path) or "this"

    def __reduce__(self):
        return Field, (self._path, self._own, self._raw)


this = Field(())
"""The record in question, for conditions: `where(this.amount >= 100)`."""


@dataclass(frozen=True, slots=True)
class Prop:
    """A property named as such, where the bare name would mean something else (a time bucket, the user)."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidQuery(f"prop() takes the name of a property, not {self.name!r}")


def prop(name: str) -> Prop:
    """The property of that name, never a time bucket or pseudo-dimension: `by(prop("month"))`."""
    return Prop(name)


def as_field(name: Any) -> Field:
    """A property by its name; dots lead into nested objects (a property whose name has the dot is found too).

    Raises InvalidQuery for a name that isn't text.
    """
    if isinstance(name, Field):
        return name
    if isinstance(name, Prop):
        return Field(tuple(name.name.split(".")) if "." in name.name.strip(".") else (name.name,), raw=True)
    if not isinstance(name, str) or not name:
        raise InvalidQuery(f"a property is named by text, not {name!r}")
    if "." in name and all(name.split(".")):
        return Field(tuple(name.split(".")))
    return Field((name,))


field = as_field


def read(record: Any, field: Field, own: bool = True) -> Any:
    """The value of a field of a record, MISSING where there is none."""
    path = field.path
    if isinstance(record, Record):
        if field.own:
            return _own(record, path)
        data: Any = record.data
    elif isinstance(record, Mapping):
        data = record
    else:
        return getattr(record, path[0], MISSING)
    found = walk(data, path)
    plain = own and not field._raw and len(path) == 1 and path[0] in _FALLBACK
    if found is MISSING and plain and isinstance(record, Record):
        return _own(record, path)
    return found


def walk(data: Any, path: tuple[str, ...]) -> Any:
    """Into nested objects by the path; else the property whose name is the dotted path."""
    found = data
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            break
        found = found[name]
    else:
        return found
    return data.get(".".join(path), MISSING) if len(path) > 1 else MISSING


def _own(record: Record, path: tuple[str, ...]) -> Any:
    from ..values import plain

    name = path[0]
    if name == "event":
        return record.type
    if name == "timestamp":
        from .. import when

        return plain(record.timestamp, when.zone("UTC"))
    if name in ("entity", "version", "value"):
        found = getattr(record, f"_{name}")
        return walk(record.data, path) if found is None else found
    found = getattr(record, name)
    return MISSING if found is None else found
