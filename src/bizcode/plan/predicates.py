"""Conditions as SQL over one piece. Every expression is TRUE or FALSE, never NULL, so that NOT is plain."""

from __future__ import annotations

from typing import Any

from .access import Piece, absent, candidates
from .condition import Among, And, Compare, Condition, Named, Not, Or, Predicate, is_number
from .fields import _FALLBACK, Field
from .sql import Parameters, literal

__all__ = ["predicate", "split"]

_OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def split(condition: Condition) -> tuple[Condition, Condition | None]:
    """What SQL can decide, and what needs Python (None if nothing does): both must hold."""
    if not _python(condition):
        return condition, None
    if isinstance(condition, And):
        mine = tuple(item for item in condition.items if not _python(item))
        theirs = tuple(item for item in condition.items if _python(item))
        return And(mine), And(theirs)
    return And(), condition


def _python(condition: Condition) -> bool:
    if isinstance(condition, (And, Or)):
        return any(map(_python, condition.items))
    if isinstance(condition, Not):
        return _python(condition.item)
    if not isinstance(condition, Compare):
        return isinstance(condition, Predicate)
    value = condition.value
    return (
        isinstance(value, Field) or _nested(value) or (isinstance(value, tuple) and any(map(_nested, value)))
    )


def _nested(value: Any) -> bool:
    """An object, whose fields lie in columns of their own, or a list, whose numbers have several spellings."""
    return isinstance(value, (dict, list))


def named(condition: Condition) -> bool:
    """Whether a condition looks at the record's name."""
    if isinstance(condition, (And, Or)):
        return any(map(named, condition.items))
    if isinstance(condition, Not):
        return named(condition.item)
    return isinstance(condition, Named)


def fields(condition: Condition) -> set[tuple[str, ...]]:
    """Every path that a condition reads."""
    if isinstance(condition, (And, Or)):
        return set().union(*(fields(item) for item in condition.items))
    if isinstance(condition, Not):
        return fields(condition.item)
    if isinstance(condition, Compare):
        return set(candidates(condition.field.path))
    return set()


def predicate(condition: Condition, piece: Piece, parameters: Parameters) -> str:
    """SQL of a condition that needs no Python."""
    before = len(parameters.values)
    if isinstance(condition, And):
        parts = [predicate(item, piece, parameters) for item in condition.items]
        if "FALSE" in parts:
            del parameters.values[before:]  # a statement may have no value that it doesn't name
            return "FALSE"
        parts = [part for part in parts if part != "TRUE"]
        return f"({' AND '.join(parts)})" if parts else "TRUE"
    if isinstance(condition, Or):
        parts = [predicate(item, piece, parameters) for item in condition.items]
        if "TRUE" in parts:
            del parameters.values[before:]
            return "TRUE"
        return _any(parts)
    if isinstance(condition, Not):
        return f"NOT {predicate(condition.item, piece, parameters)}"
    if isinstance(condition, Compare):
        return _compare(condition, piece, parameters)
    if isinstance(condition, Named):
        return "TRUE" if piece.own("type") == literal(condition.name) else "FALSE"
    if isinstance(condition, Among):
        return f"position IN (SELECT position FROM {condition.table})"
    raise TypeError(f"{condition!r} needs Python")


def _compare(condition: Compare, piece: Piece, parameters: Parameters) -> str:
    field, operator, value = condition.field, condition.operator, condition.value
    paths = candidates(field.path)
    if operator == "exists":
        if field.own:
            own = piece.own(field.path[0])
            found = f"({own} IS NOT NULL)" if own else "FALSE"
        else:
            first, *others = paths
            found = _any(
                [
                    piece.exists(first),
                    *(f"({absent(piece, first)} AND {piece.exists(path)})" for path in others),
                ]
            )
        return found if value else f"NOT {found}"
    name = field.path[0]
    own = piece.own(name) if len(field.path) == 1 else None
    if field.own and own is not None:
        return _own(own, name, operator, value, parameters)
    stated = _stated(piece, paths, operator, value, parameters)
    if own is not None and not field._raw and name in _FALLBACK:
        missing = " AND ".join(absent(piece, path) for path in paths)
        return f"({stated} OR ({missing} AND {_own(own, name, operator, value, parameters)}))"
    return stated


def _stated(piece: Piece, paths: Any, operator: str, value: Any, parameters: Parameters) -> str:
    """Of a property: the first place where it lies counts."""
    parts = []
    for at, path in enumerate(paths):
        found = _on(piece, path, operator, value, parameters)
        if at and found != "FALSE":
            found = f"({absent(piece, paths[0])} AND {found})"
        parts.append(found)
    return _any(parts)


def _any(parts: Any) -> str:
    kept = [part for part in parts if part != "FALSE"]
    if not kept:
        return "FALSE"
    return kept[0] if len(kept) == 1 else f"({' OR '.join(kept)})"


def _on(piece: Piece, path: tuple[str, ...], operator: str, value: Any, parameters: Parameters) -> str:
    if operator == "in":
        return _any(
            [_on(piece, path, "eq", item, parameters) for item in value]
            if len(value) <= 8
            else _in(piece, path, value, parameters)
        )
    if operator == "eq" and value is None:
        return piece.null(path)
    found = piece.types(path)
    if operator in ("eq", "gt", "gte", "lt", "lte"):
        return _any(
            [
                _test(piece.typed(path, type), _OPERATORS[operator], value, type, parameters)
                for type in _readings(value, operator)
                if type in found
            ]
        )
    if operator == "between":
        low, high = value
        if type_of(low) != type_of(high):
            return "FALSE"
        parts = [
            f"({_test(sql, '>=', low, kind, parameters)} AND {_test(sql, '<=', high, kind, parameters)})"
            for kind in _readings(low, "gte")
            if kind in found
            for sql in [piece.typed(path, kind)]
        ]
        return _any(parts)
    parts = []
    if "text" in found and isinstance(value, str):
        function = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}[operator]
        parts.append(f"coalesce({function}({piece.typed(path, 'text')}, {parameters.add(value)}), FALSE)")
    if operator == "contains" and "json" in found:
        parts.append(_list_contains(piece.lists(path), value, parameters))
    return _any(parts)


def _in(piece: Piece, path: tuple[str, ...], value: Any, parameters: Parameters) -> list[str]:
    """Long lists, grouped by type so that each is one membership test."""
    parts = []
    texts = [item for item in value if isinstance(item, str)]
    numbers = [item for item in value if is_number(item)]
    others = [item for item in value if not isinstance(item, str) and not is_number(item)]
    found = piece.types(path)
    if texts and "text" in found:
        parts.append(
            f"coalesce(list_contains({parameters.add(texts)}::VARCHAR[], {piece.typed(path, 'text')}), FALSE)"
        )
    integers = [int(item) for item in numbers if item == int(item) and abs(item) < 2**63]
    if integers and "int" in found:
        parts.append(
            f"coalesce(list_contains({parameters.add(integers)}::BIGINT[], {piece.typed(path, 'int')}), FALSE)"
        )
    if numbers and "double" in found:
        doubles = [float(item) for item in numbers]
        parts.append(
            f"coalesce(list_contains({parameters.add(doubles)}::DOUBLE[], {piece.typed(path, 'double')}), FALSE)"
        )
    parts += [_on(piece, path, "eq", item, parameters) for item in others]
    return parts


def type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        return "text"
    return "json"


def _readings(value: Any, operator: str) -> tuple[str, ...]:
    kind = type_of(value)
    if kind == "number":
        return ("int", "double")
    if kind == "bool":
        return ("bool",) if operator == "eq" else ()
    return ("text",) if kind == "text" else ()


def _test(sql: str, operator: str, value: Any, type: str, parameters: Parameters) -> str:
    if type in ("int", "double"):
        # An int column against 2.5 must not round the 2.5, and a double column takes a double.
        if type == "int" and isinstance(value, int):
            return f"coalesce({sql} {operator} {parameters.add(value)}::BIGINT, FALSE)"
        return f"coalesce({sql} {operator} {parameters.add(float(value))}::DOUBLE, FALSE)"
    if type == "bool":
        return f"coalesce({sql} {operator} {parameters.add(value)}::BOOLEAN, FALSE)"
    return f"coalesce({sql} {operator} {parameters.add(value)}::VARCHAR, FALSE)"


def _list_contains(sql: str, value: Any, parameters: Parameters) -> str:
    """A JSON list with this element: numbers by value, everything else by its JSON."""
    items = f"TRY_CAST({sql} AS JSON[])"  # an object is in the same column, and tests come in any order
    if is_number(value):
        wanted = parameters.add(float(value))
        test = f"json_type(x) IN ('BIGINT','UBIGINT','DOUBLE') AND TRY_CAST(x AS DOUBLE) = {wanted}::DOUBLE"
    else:
        import orjson

        wanted = parameters.add(orjson.dumps(value).decode())
        test = f"CAST(x AS VARCHAR) = {wanted}"
    return f"coalesce(json_type({sql}) = 'ARRAY' AND len(list_filter({items}, lambda x: {test})) > 0, FALSE)"


def _own(sql: str, name: str, operator: str, value: Any, parameters: Parameters) -> str:
    """Of the record's own attribute: text, or a number for position, version and value."""
    if operator == "in":
        return _any(_own(sql, name, "eq", item, parameters) for item in value)
    if operator == "between":
        low, high = (
            _own(sql, name, op, end, parameters) for op, end in zip(("gte", "lte"), value, strict=True)
        )
        return f"({low} AND {high})"
    if name in ("position", "version", "value"):
        if not is_number(value) or operator not in _OPERATORS:
            return "FALSE"
        return _test(sql, _OPERATORS[operator], value, "double", parameters)
    if not isinstance(value, str):
        return "FALSE"
    if name == "timestamp":
        moment = _moment(value)
        if moment is None or operator not in _OPERATORS:
            return "FALSE"
        return f"({sql} {_OPERATORS[operator]} make_timestamptz({moment}::BIGINT))"
    if operator in _OPERATORS:
        return f"coalesce({sql} {_OPERATORS[operator]} {parameters.add(value)}::VARCHAR, FALSE)"
    function = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}[operator]
    return f"coalesce({function}({sql}, {parameters.add(value)}), FALSE)"


def _moment(text: str) -> int | None:
    from .. import when
    from ..errors import InvalidTime

    try:
        return when.instant(text, when.zone("UTC"))
    except InvalidTime:
        return None
