"""Conditions on records: what `where` takes, and what each means for one record.

The meaning is written once in Python (`matches`) and once in SQL (`plan.predicates`); a property
test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from .. import values
from ..errors import InvalidQuery
from .fields import MISSING, Field, as_field, read

__all__ = [
    "OPERATORS",
    "TRUE",
    "Among",
    "And",
    "Compare",
    "Condition",
    "Named",
    "Not",
    "Or",
    "Predicate",
    "conditions",
]

OPERATORS = (
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "not_in",
    "between",
    "contains",
    "startswith",
    "endswith",
    "exists",
)
_NEGATED = {"ne": "eq", "not_in": "in"}


class Condition:
    """A question about one record. Combine with `&`, `|` and `~`."""

    __slots__ = ()

    def matches(self, record: Any) -> bool:
        """Whether the record (or a mapping) meets it. A missing property or another type is false."""
        raise TypeError

    def __and__(self, other: Any) -> Condition:
        return And((self, _condition(other)))

    def __or__(self, other: Any) -> Condition:
        return Or((self, _condition(other)))

    def __invert__(self) -> Condition:
        return Not(self)

    def __rand__(self, other: Any) -> Condition:
        return _condition(other) & self

    def __ror__(self, other: Any) -> Condition:
        return _condition(other) | self

    def __bool__(self) -> bool:
        raise InvalidQuery("combine conditions with & | ~ (and parentheses), not with and, or, not")


@dataclass(frozen=True, slots=True)
class Compare(Condition):
    """One field against one value. `ne` and `not_in` are held as `Not` of their positive form."""

    field: Field
    operator: str
    value: Any

    def matches(self, record: Any) -> bool:
        found = read(record, self.field, own=self.operator != "exists" or self.field.own)
        if self.operator == "exists":
            return (found is not MISSING and found is not None) == self.value
        if found is MISSING:
            return False
        value = self.value
        if isinstance(value, Field):
            value = read(record, value)
            if value is MISSING:
                return False
        return _TESTS[self.operator](found, value)

    def __repr__(self) -> str:
        sign = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}.get(self.operator)
        if sign is not None:
            return f"({self.field!r} {sign} {self.value!r})"
        name = "in_" if self.operator == "in" else self.operator
        return f"{self.field!r}.{name}({self.value!r})"


@dataclass(frozen=True, slots=True)
class And(Condition):
    """All of them; true when there is none."""

    items: tuple[Condition, ...] = ()

    def matches(self, record: Any) -> bool:
        return all(item.matches(record) for item in self.items)

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.items))})" if self.items else "TRUE"


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """At least one of them."""

    items: tuple[Condition, ...]

    def matches(self, record: Any) -> bool:
        return any(item.matches(record) for item in self.items)

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.items))})"


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """Plain negation: what the other doesn't meet, a missing property included."""

    item: Condition

    def matches(self, record: Any) -> bool:
        return not self.item.matches(record)

    def __repr__(self) -> str:
        return f"~({self.item!r})"


@dataclass(frozen=True, slots=True)
class Predicate(Condition):
    """A Python function of the record; runs row by row, on what the other conditions let through.

    A comparison in it with a missing property or another type (`e.amount > 100` where that is None or text)
    means that the record doesn't meet it; every other error is the caller's."""

    function: Callable[[Any], Any]

    def matches(self, record: Any) -> bool:
        try:
            return bool(self.function(record))
        except TypeError as error:
            if _unordered(error):
                return False
            raise

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))


@dataclass(frozen=True, slots=True)
class Named(Condition):
    """The record's type is this name."""

    name: str

    def matches(self, record: Any) -> bool:
        return record.type == self.name


@dataclass(frozen=True, slots=True)
class Among(Condition):
    """The record's position is in a table of the engine: what a Python condition has let through."""

    table: str


TRUE = And()


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by value, True is no number, lists and objects deeply."""
    if is_number(a):
        return is_number(b) and a == b
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


def _ordered(a: Any, b: Any) -> bool:
    return (is_number(a) and is_number(b)) or (isinstance(a, str) and isinstance(b, str))


_UNORDERED = re.compile(r"'[<>]=?' not supported between instances of '(\w+)' and '(\w+)'")
_JSON = frozenset(("NoneType", "bool", "int", "float", "str", "list", "dict"))


def _unordered(error: TypeError) -> bool:
    """Whether it says that two values of properties have no order."""
    found = _UNORDERED.fullmatch(str(error))
    return found is not None and _JSON.issuperset(found.groups())


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and any(same(item, value) for item in found)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": same,
    "gt": lambda a, b: _ordered(a, b) and a > b,
    "gte": lambda a, b: _ordered(a, b) and a >= b,
    "lt": lambda a, b: _ordered(a, b) and a < b,
    "lte": lambda a, b: _ordered(a, b) and a <= b,
    "in": lambda a, b: any(same(a, item) for item in b),
    "between": lambda a, b: _ordered(a, b[0]) and _ordered(a, b[1]) and b[0] <= a <= b[1],
    "contains": _contains,
    "startswith": lambda a, b: isinstance(a, str) and isinstance(b, str) and a.startswith(b),
    "endswith": lambda a, b: isinstance(a, str) and isinstance(b, str) and a.endswith(b),
}


def compare(field: Field, operator: str, value: Any, tz: ZoneInfo | None = None) -> Condition:
    """A checked comparison. Raises InvalidQuery for an unknown operator or a value that doesn't fit it."""
    if operator not in OPERATORS:
        raise InvalidQuery(f"unknown operator {operator!r} on {field}: use one of {', '.join(OPERATORS)}")
    if operator in _NEGATED:
        return Not(compare(field, _NEGATED[operator], value, tz))
    if operator == "exists":
        if not isinstance(value, bool):
            raise InvalidQuery(f"exists on {field} takes True or False, not {value!r}")
        return Compare(field, operator, value)
    if isinstance(value, Field):
        return Compare(field, operator, value)
    if operator == "in":
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise InvalidQuery(f"in on {field} takes a list of values, not {value!r}")
        return Compare(field, operator, tuple(_plain(item, field, tz) for item in value))
    if operator == "between":
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise InvalidQuery(f"between on {field} takes two values, not {value!r}")
        ends = tuple(_plain(item, field, tz) for item in value)
        if len(ends) != 2:
            raise InvalidQuery(f"between on {field} takes two values, {len(ends)} were given")
        return Compare(field, operator, ends)
    return Compare(field, operator, _plain(value, field, tz))


def _plain(value: Any, field: Field, tz: ZoneInfo | None) -> Any:
    from .. import when

    return values.plain(value, tz or when.zone("UTC"), str(field))


def conditions(given: Iterable[Any], keywords: Mapping[str, Any], tz: ZoneInfo | None = None) -> Condition:
    """What `where` was given: mappings, `this` expressions, functions, keywords. All must hold."""
    found: list[Condition] = []
    for item in given:
        if isinstance(item, Mapping):
            found.extend(_of_mapping(item, tz))
        else:
            found.append(_condition(item))
    for key, value in keywords.items():
        name, mark, operator = key.rpartition("__")
        known = operator in OPERATORS or key.startswith("__")
        if mark and name and not known and operator.islower() and operator.isalpha():
            raise InvalidQuery(
                f"unknown operator {operator!r} on {name!r}: use one of {', '.join(OPERATORS)}"
            )
        found.extend(_of_pair(key, value, tz))
    if len(found) == 1:
        return found[0]
    return And(tuple(found))


def _of_mapping(given: Mapping[Any, Any], tz: ZoneInfo | None) -> Iterable[Condition]:
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidQuery(f"where takes property names as text, not {key!r}")
        yield from _of_pair(key, value, tz)


def _of_pair(name: str, value: Any, tz: ZoneInfo | None) -> Iterable[Condition]:
    """`amount=1`, `amount__gte=1`, `amount={"gte": 1}`; the last is how to name what ends like an operator."""
    before, _, operator = name.rpartition("__")
    if before and operator in OPERATORS and not isinstance(value, Mapping):
        yield compare(as_field(before), operator, value, tz)
        return
    field = as_field(name)
    if isinstance(value, Mapping):
        if not value:
            raise InvalidQuery(f"where({name}={{}}) names no operator: use one of {', '.join(OPERATORS)}")
        for operator, operand in value.items():
            yield compare(field, str(operator), operand, tz)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield compare(field, "in", value, tz)
    elif isinstance(value, Condition):
        raise InvalidQuery(
            f"where({name}=...) takes a value; pass the expression itself: where(this.{name} > 1)"
        )
    else:
        yield compare(field, "eq", value, tz)


def _condition(item: Any) -> Condition:
    if isinstance(item, Condition):
        return item
    if isinstance(item, Field):
        raise InvalidQuery(f"{item} is a property, not a condition: compare it, for example {item} == 1")
    if isinstance(item, Mapping):
        return conditions([item], {})
    if callable(item):
        return Predicate(item)
    raise InvalidQuery(
        f"where takes property=value, a mapping, a `this` expression or a function, not {item!r}"
    )
