"""Conditions and selections as JSON values, so that definitions last, and back."""

from __future__ import annotations

from typing import Any

from .condition import And, Compare, Condition, Not, Or, Predicate
from .fields import Field
from .select import Select

__all__ = ["condition_of", "field_of", "has_function", "select_of", "spec_of"]

FUNCTION = {"function": True}
"""Stands for a Python function, which is neither stored nor compared."""


def has_function(condition: Condition) -> bool:
    """Whether a Python function is part of a condition."""
    if isinstance(condition, (And, Or)):
        return any(map(has_function, condition.items))
    if isinstance(condition, Not):
        return has_function(condition.item)
    return isinstance(condition, Predicate)


def spec_of(given: Condition | Select | Field | None) -> Any:
    """A condition, a selection or a field as a JSON value. A function is only marked as such."""
    if given is None:
        return None
    if isinstance(given, Field):
        return {"path": list(given.path), "own": given.own, "raw": given._raw}
    if isinstance(given, Select):
        names = None if given.names is None else list(given.names)
        return {"kind": given.kind, "names": names, "where": spec_of(given.where)}
    if isinstance(given, And):
        return {"and": [spec_of(item) for item in given.items]}
    if isinstance(given, Or):
        return {"or": [spec_of(item) for item in given.items]}
    if isinstance(given, Not):
        return {"not": spec_of(given.item)}
    if isinstance(given, Compare):
        value = given.value
        if isinstance(value, Field):
            return {"field": spec_of(given.field), "operator": given.operator, "other": spec_of(value)}
        value = list(value) if isinstance(value, tuple) else value
        return {"field": spec_of(given.field), "operator": given.operator, "value": value}
    return dict(FUNCTION)


def field_of(spec: Any) -> Field | None:
    """The field of a spec."""
    if spec is None:
        return None
    return Field(tuple(spec["path"]), own=spec["own"], raw=spec["raw"])


def condition_of(spec: Any) -> Condition | None:
    """The condition of a spec; None where a function was part of it."""
    if "function" in spec:
        return None
    if "and" in spec or "or" in spec:
        join = And if "and" in spec else Or
        items = [condition_of(item) for item in spec["and" if join is And else "or"]]
        return None if None in items else join(tuple(item for item in items if item is not None))
    if "not" in spec:
        item = condition_of(spec["not"])
        return None if item is None else Not(item)
    field = field_of(spec["field"])
    assert field is not None
    if "other" in spec:
        return Compare(field, spec["operator"], field_of(spec["other"]))
    value = spec["value"]
    if spec["operator"] in ("in", "between"):
        value = tuple(value)
    return Compare(field, spec["operator"], value)


def select_of(spec: Any) -> Select | None:
    """The selection of a spec; None where a function was part of its conditions."""
    where = condition_of(spec["where"])
    if where is None:
        return None
    names = None if spec["names"] is None else tuple(spec["names"])
    return Select(kind=spec["kind"], names=names, where=where)
