"""What one record gives to a view, read in Python: its place, and a value for each aggregation.

The same as the statement in `grouped` gives of many; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ..plan import predicates
from ..plan.access import of_objects
from ..plan.condition import TRUE, And, Condition, Predicate
from ..plan.fields import MISSING, Field, as_field, walk
from ..record import MEASURE, Stored, record_of
from .definition import Definition
from .grouped import NUMBERS, folds_of, own_of
from .order import Key

__all__ = ["Reading", "part_of", "reads_user"]

_WHOLE = 2**53
_FALSE, _TRUE = ("bool", False), ("bool", True)


def part_of(value: Any, name: str) -> Any:
    """A property's value as a part of a place. Raises InvalidQuery for an object, which is no key."""
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < _WHOLE else value
    if kind is bool:
        return _TRUE if value else _FALSE
    if isinstance(value, dict):
        raise of_objects((name,))
    return orjson.dumps(value, default=str).decode()


def reads_user(definition: Definition) -> bool:
    """Whether a merge of users changes what its records give, other than the user that they are grouped by."""
    select = definition.select
    where = set() if select is None else predicates.fields(select.where)
    fields = [made.field for made in definition.compute.values() if made.field is not None]
    return ("user",) in where or any(own_of(field) == "user" for field in fields)


class Reading:
    """Reads records for one view.

    Args:
        user: the name under which an id counts.
    """

    def __init__(self, definition: Definition, store_id: str, user: Callable[[str], str]) -> None:
        select = definition.select
        assert select is not None
        self.kind = select.kind
        self.names = None if select.names is None else frozenset(select.names)
        self._store_id = store_id
        self._user = user
        where, python = predicates.split(select.where)
        self._where: Condition | None = None if where == TRUE or where == And(()) else where
        self._python: Condition | Predicate | None = python
        self._keys = [self._key(definition, name) for name in definition.group_by]
        self._values = [self._value(fold) for fold in folds_of(definition)]
        self._plain = self._where is None and self._python is None

    def reads(self, kind: str, name: str) -> bool:
        """Whether records of a kind and name are the view's, if they meet its conditions."""
        return kind == self.kind and (self.names is None or name in self.names)

    def read(self, row: Stored) -> tuple[Key, tuple[Any, ...]] | None:
        """(place, values) of a record of the view's; None where the conditions leave it out."""
        data = orjson.loads(row.data)
        if not self._plain:
            if self._where is not None and not self._where.matches(self._record(row)):
                return None
            if self._python is not None and not self._python.matches(record_of(row, self._store_id)):
                return None
        return (
            tuple([key(row, data) for key in self._keys]),
            tuple([value(row, data) for value in self._values]),
        )

    def _record(self, row: Stored) -> Any:
        if row.user is not None:
            row = row._replace(user=self._user(row.user))
        return record_of(row, self._store_id)

    def _key(self, definition: Definition, name: str) -> Callable[[Stored, Any], Any]:
        own = self._own(name) if definition.is_own(name) else None
        if own is not None:
            return own
        field = as_field(name)
        if len(field.path) == 1:
            return lambda row, data: part_of(data.get(name), name)
        return lambda row, data: part_of(_walked(data, field), name)

    def _value(self, fold: Any) -> Callable[[Stored, Any], Any]:
        field = fold.made.field
        if fold.made.operation == "count" or field is None:
            return lambda row, data: True
        if fold.instants:
            return lambda row, data: row.time
        if self.kind == MEASURE and field.path == ("value",):
            return lambda row, data: row.value
        name = field.path[0]
        if fold.made.operation in NUMBERS:
            if len(field.path) == 1:
                return lambda row, data: data.get(name)
            return lambda row, data: _walked(data, field)
        return self._own(own_of(field)) or (lambda row, data: _checked(_walked(data, field), field))

    def _own(self, name: str | None) -> Callable[[Stored, Any], Any] | None:
        if name == "user":
            user = self._user
            return lambda row, data: None if row.user is None else user(row.user)
        return (lambda row, data: row.name) if name == "event" else None


def _walked(data: Any, field: Field) -> Any:
    found = walk(data, field.path)
    return None if found is MISSING else found


def _checked(value: Any, field: Field) -> Any:
    if isinstance(value, dict):
        raise of_objects(field.path)
    return value
