"""What a view is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import when
from ..errors import InvalidQuery
from ..plan.aggregation import Aggregation
from ..plan.condition import TRUE, And, Condition, conditions
from ..plan.fields import Field, Prop, as_field, prop
from ..plan.select import Select
from ..plan.spec import condition_of, field_of, has_function, select_of, spec_of
from ..query.reach import describe

__all__ = ["OWN", "Definition", "Named", "condition", "from_spec", "keys_of", "ordering", "to_spec"]


OWN = frozenset(("user", "event"))
"""Names that mean the record's user (merged ids are one) and its event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A view: records of a select (or rows of another view, or elements of a stream), grouped and aggregated."""

    name: str
    source: Any
    group_by: tuple[str, ...]
    compute: Mapping[str, Aggregation]
    where: Condition = TRUE
    having: Condition = TRUE
    order_by: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    incremental: bool = False
    last: int | None = None
    tz: Any = field(default=None, compare=False)
    props: frozenset[str] = frozenset()
    """Keys of OWN that mean the property of that name: `group_by=prop("user")`."""

    def is_own(self, key: str) -> bool:
        """Whether a key means the record's user or event, not a property."""
        return key in OWN and key not in self.props

    def field_of(self, key: str) -> Field:
        """The field that a key is."""
        return as_field(prop(key) if key in self.props else key)

    @property
    def user_at(self) -> int | None:
        """The place of the merged user in the key, None where it is no part of it."""
        return self.group_by.index("user") if "user" in self.group_by and self.is_own("user") else None

    @property
    def select(self) -> Select | None:
        """The records it is made of, None if it isn't made of records."""
        found = getattr(self.source, "select", None)
        return found.and_where(self.where) if isinstance(found, Select) else None

    @property
    def words(self) -> str:
        """What it is, for a reader."""
        select = self.select
        names = select.names if select is not None else None
        source = ", ".join(names) if names else getattr(self.source, "name", None) or "its source"
        where = self.where if select is None else select.where
        parts = [source if where == TRUE else f"{source} where {_said(where)}"]
        computed = ", ".join(
            f"{name} = {str(one).removeprefix('biz.')}" for name, one in self.compute.items()
        )
        parts[0] += f" by {', '.join(self.group_by)}: {computed}" if self.group_by else f": {computed}"
        if self.last is not None:
            parts.append(f"of the last {when.Duration(micros=self.last)}")
        if self.having != TRUE:
            parts.append(f"having {_said(self.having)}")
        if self.order_by:
            ways = (f"{name}{' downwards' if descending else ''}" for name, descending in self.order_by)
            parts.append(f"ordered by {', '.join(ways)}")
        if self.limit is not None:
            parts.append(f"the first {self.limit:,}")
        return "; ".join(parts)

    def check_fields(self, names: Iterable[str], what: str) -> None:
        """Raises InvalidQuery for a name that its rows don't have; what a stream wrote may have any."""
        known = (*self.group_by, *self.compute)
        for name in names:
            if self.source is not None and name not in known:
                raise InvalidQuery(f"{what} names {name!r}, the view has {', '.join(known)}")

    def text(self) -> str:
        """What tells it from another definition; functions by their names only."""
        parts = [
            self.select if self.select is not None else (self._source_text(), self.where),
            self.group_by,
            tuple(sorted((k, repr(v)) for k, v in self.compute.items())),
            self.having,
            *([tuple(sorted(self.props))] if self.props else []),
        ]
        return describe((*parts, self.order_by, self.limit, self.incremental, self.last))

    def _source_text(self) -> str:
        source = self.source
        if hasattr(source, "explain"):
            return source.explain()
        name = getattr(source, "name", type(source).__name__)
        asked = tuple(
            getattr(source, part, None) for part in ("condition", "order", "rows_limit", "rows_offset")
        )
        return describe((name, *asked)) if any(part is not None for part in asked) else name


def _said(made: Condition) -> str:
    while isinstance(made, And) and len(made.items) == 1:
        made = made.items[0]
    return repr(made)


def ordering(given: Any) -> tuple[tuple[str, bool], ...]:
    """(field, descending) pairs from {"total": "desc"}, "total", "-total", or a list of these. Raises InvalidQuery."""
    if given is None:
        return ()
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        found = []
        for name, way in given.items():
            if way not in ("asc", "desc"):
                raise InvalidQuery(f"order_by={{{name!r}: ...}} takes 'asc' or 'desc', not {way!r}")
            found.append((name, way == "desc"))
        return tuple(found)
    pairs: list[tuple[str, bool]] = []
    for item in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(item, Mapping):
            pairs += ordering(item)
        elif isinstance(item, str) and item.strip("-"):
            pairs.append((item.lstrip("-"), item.startswith("-")))
        else:
            raise InvalidQuery(f"order_by takes names of fields, not {item!r}")
    return tuple(pairs)


def keys_of(given: Any) -> tuple[tuple[str, ...], frozenset[str]]:
    """(names, those of them that mean a property all the same) of what group_by= takes. Raises InvalidQuery."""
    keys = () if given is None else given if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(key, Prop) or (isinstance(key, str) and key) for key in keys):
        raise InvalidQuery(f"group_by= takes names of properties, not {given!r}")
    names = tuple(key.name if isinstance(key, Prop) else key for key in keys)
    return names, frozenset(key.name for key in keys if isinstance(key, Prop) and key.name in OWN)


def condition(given: Any, tz: Any) -> Condition:
    """Conditions as where= and having= take them: None, a mapping, an expression or a function."""
    return TRUE if given is None else conditions([given], {}, tz)


class Named:
    """What is known by the name of a view alone."""

    name: str


@dataclass(frozen=True, slots=True)
class Selected:
    """The source of a definition that was read from the log."""

    select: Select


def to_spec(made: Definition) -> Any:
    """A definition as JSON, so that it lasts; None where a function, a stream or a question is part of it."""
    source = _source_spec(made)
    if source is None or has_function(made.having):
        return None
    return {
        **source,
        "group_by": list(made.group_by),
        "props": sorted(made.props),
        "compute": {
            name: {"operation": one.operation, "field": spec_of(one.field), "argument": one.argument}
            for name, one in made.compute.items()
        },
        "having": spec_of(made.having),
        "order_by": [list(pair) for pair in made.order_by],
        "limit": made.limit,
        "incremental": made.incremental,
        "last": made.last,
    }


def _source_spec(made: Definition) -> dict[str, Any] | None:
    select = made.select
    if select is None:
        if has_function(made.where) or not isinstance(made.source, Named):
            return None
        return {"view": made.source.name, "where": spec_of(made.where)}
    if select.since is not None or select.until is not None or has_function(select.where):
        return None
    return {"select": spec_of(select)}


def from_spec(name: str, spec: Any, tz: Any, view: Callable[[str], Any]) -> Definition | None:
    """The definition of a spec, None of none.

    Args:
        view: the view of a name.
    """
    if spec is None:
        return None
    having = condition_of(spec["having"])
    where: Condition | None = TRUE
    source: Any
    if "view" in spec:
        where, source = condition_of(spec["where"]), view(spec["view"])
    else:
        select = select_of(spec["select"])
        source = None if select is None else Selected(select)
    if source is None or having is None or where is None:
        return None
    return Definition(
        name=name,
        source=source,
        where=where,
        group_by=tuple(spec["group_by"]),
        props=frozenset(spec.get("props", ())),
        compute={
            key: Aggregation(one["operation"], field_of(one["field"]), one["argument"])
            for key, one in spec["compute"].items()
        },
        having=having,
        order_by=tuple((field, descending) for field, descending in spec["order_by"]),
        limit=spec["limit"],
        incremental=spec["incremental"],
        last=spec["last"],
        tz=tz,
    )
