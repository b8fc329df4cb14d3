"""What is asked of the records: which ones, over what time, grouped by what, and which number of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .. import when
from ..errors import InvalidQuery
from .condition import TRUE, And, Condition
from .fields import Field, Prop, as_field

__all__ = ["AGGREGATIONS", "Aggregate", "Dimension", "Select", "dimension"]

AGGREGATIONS = (
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "percentile",
    "stddev",
    "unique",
    "first",
    "last",
    "current",
    "rate",
)


@dataclass(frozen=True, slots=True)
class Dimension:
    """One key to group by. kind: "bucket", "property", "event", "user", "experiment"."""

    kind: str
    name: str
    field: Field | None = None


def dimension(given: Any) -> Dimension:
    """A dimension from what `by` takes. Raises InvalidQuery for anything but a name, `prop(...)` or `this.x`."""
    if isinstance(given, Dimension):
        return given
    if isinstance(given, Prop):
        return Dimension("property", given.name, as_field(given))
    if isinstance(given, Field):
        if given.own and given.path == ("user",):
            return Dimension("user", "user")
        return Dimension("property", str(given), given)
    if not isinstance(given, str) or not given.strip():
        raise InvalidQuery(f"by() takes names of properties or of time buckets, not {given!r}")
    if given in when.UNITS:
        return Dimension("bucket", given)
    if given in ("event", "user"):
        return Dimension(given, given)
    if given.startswith("experiment:") and len(given) > len("experiment:"):
        return Dimension("experiment", given[len("experiment:") :])
    return Dimension("property", given, as_field(given))


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Records of one kind: by names (None: all), conditions, and a range as the user said it."""

    kind: str
    names: tuple[str, ...] | None = None
    where: Condition = TRUE
    since: Any = None
    until: Any = None

    def and_where(self, condition: Condition) -> Select:
        if condition == TRUE:
            return self
        items = (*(self.where.items if isinstance(self.where, And) else (self.where,)), condition)
        return replace(self, where=And(items))


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """One number, or one per group, of the selected records.

    `field` None with a measurement means its value. `argument` is the percentile's p, or the rate's unit.
    `counter` says that the metric is a counter (its total is what is current).
    """

    select: Select
    operation: str
    field: Field | None = None
    argument: Any = None
    by: tuple[Dimension, ...] = ()
    limit: int | None = None
    offset: int = 0
    vs: str | None = None

    @property
    def stop(self) -> int | None:
        """The place among all groups at which `limit` ends."""
        return None if self.limit is None else self.offset + self.limit

    @property
    def bucket(self) -> Dimension | None:
        return next((d for d in self.by if d.kind == "bucket"), None)
