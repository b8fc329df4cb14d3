"""What a view is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidQuery
from ..plan.aggregation import Aggregation
from ..plan.condition import TRUE, Condition, conditions
from ..plan.select import Select
from ..query.reach import describe

__all__ = ["Definition", "ordering"]


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

    @property
    def select(self) -> Select | None:
        """The records it is made of, None if it isn't made of records."""
        found = getattr(self.source, "select", None)
        return found.and_where(self.where) if isinstance(found, Select) else None

    def text(self) -> str:
        """What tells it from another definition; functions by their names only."""
        source = (
            self.select
            if self.select is not None
            else getattr(self.source, "name", type(self.source).__name__)
        )
        parts = [
            source,
            self.group_by,
            tuple(sorted((k, repr(v)) for k, v in self.compute.items())),
            self.having,
        ]
        return describe((*parts, self.order_by, self.limit, self.incremental, self.last))


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
    for item in given:
        if isinstance(item, Mapping):
            pairs += ordering(item)
        elif isinstance(item, str) and item.strip("-"):
            pairs.append((item.lstrip("-"), item.startswith("-")))
        else:
            raise InvalidQuery(f"order_by takes names of fields, not {item!r}")
    return tuple(pairs)


def condition(given: Any, tz: Any) -> Condition:
    """Conditions as where= and having= take them: None, a mapping, an expression or a function."""
    return TRUE if given is None else conditions([given], {}, tz)
