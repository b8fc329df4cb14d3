"""Leaf columns put together again: JSON texts, column by column, without touching single values where it can be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from .arrow import compute
from .leaves import Path
from .schema import REST, Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["merge", "put_together"]

_SPECIAL = r'["\\\x00-\x1f]'


def put_together(table: pa.Table, columns: Iterable[Column]) -> list[str]:
    """The JSON text of each row's properties.

    Args:
        table: with the columns that the file has, of those given, and `rest`.
    """
    present = [column for column in columns if column.column in table.column_names]
    texts: list[str] = []
    for batch in table.combine_chunks().to_batches():
        texts += _texts(batch, present)
    return texts


def _texts(batch: pa.RecordBatch, columns: list[Column]) -> list[str]:
    fragments: list[tuple[Path, Any]] = []
    for column in columns:
        values = batch[column.column]
        if values.null_count < len(values):
            fragments.append((column.path, _json(values, column.type)))
    made = _object(fragments, 0)
    texts = ["{}"] * batch.num_rows if made is None else compute().fill_null(made, "{}").to_pylist()
    rest = batch[REST]
    if rest.null_count < len(rest):
        for row, text in enumerate(rest.to_pylist()):
            if text is not None:
                texts[row] = orjson.dumps(merge(orjson.loads(texts[row]), orjson.loads(text))).decode()
    return texts


def merge(data: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """Put the rest into the data, in place: objects into objects.

    >>> merge({"a": {"b": 1}}, {"a": {"c": None}, "d": {}})
    {'a': {'b': 1, 'c': None}, 'd': {}}
    """
    for key, value in rest.items():
        held = data.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            merge(held, value)
        else:
            data[key] = value
    return data


def _object(fragments: list[tuple[Path, Any]], depth: int) -> Any:
    """Texts of the objects that lie at one place, null where no field of one is there."""
    import pyarrow as pa

    pc = compute()

    groups: dict[str, list[tuple[Path, Any]]] = {}
    for path, values in fragments:
        groups.setdefault(path[depth], []).append((path, values))
    fields = []
    for key, inside in groups.items():
        name = orjson.dumps(key).decode() + ":"
        alternatives = [values for path, values in inside if len(path) == depth + 1]
        deeper = [(path, values) for path, values in inside if len(path) > depth + 1]
        if deeper:
            alternatives.append(_object(deeper, depth + 1))
        value = alternatives[0] if len(alternatives) == 1 else pc.coalesce(*alternatives)
        fields.append(pc.binary_join_element_wise(name, value, ""))
    if not fields:
        return None
    if len(fields) == 1:
        return pc.binary_join_element_wise("{", fields[0], "}", "")
    some = fields[0].is_valid()
    for field in fields[1:]:
        some = pc.or_(some, field.is_valid())
    # Arrow drops rows in which everything is skipped, so something is always there: the leading text,
    # whose comma then becomes the brace.
    joined = pc.binary_join_element_wise("", *fields, ",", null_handling="skip")
    joined = pc.binary_join_element_wise(pc.binary_replace_slice(joined, 0, 1, "{"), "}", "")
    return joined if pc.all(some).as_py() else pc.if_else(some, joined, pa.scalar(None, pa.string()))


def _json(values: Any, type: str) -> Any:
    """The JSON text of each value of a leaf's column."""
    import pyarrow as pa

    pc = compute()

    if type == "json":
        return values
    if type == "text":
        special = pc.match_substring_regex(values, _SPECIAL)
        if pc.any(special).as_py():
            escaped = [orjson.dumps(value).decode() for value in values.filter(special).to_pylist()]
            quoted = pc.binary_join_element_wise('"', values, '"', "")
            return pc.replace_with_mask(quoted, pc.fill_null(special, False), pa.array(escaped, pa.string()))
        return pc.binary_join_element_wise('"', values, '"', "")
    texts = pc.cast(values, pa.string())
    if type == "double":
        whole = pc.match_substring_regex(texts, r"^-?[0-9]+$")
        if pc.any(whole).as_py():
            texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
    return texts
