"""The aggregations that events and measurements share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import InvalidQuery
from ..plan.fields import as_field
from ..plan.select import Aggregate, Select
from .aggregate import AggregateQuery
from .shaped import Shaped

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Numbers", "check_percentile"]


def check_percentile(p: Any) -> float:
    """A percentile between 0 and 100. Raises InvalidQuery."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 100 or math.isnan(p):
        raise InvalidQuery(f"percentile() takes a number from 0 to 100, not {p!r}")
    return p


class Numbers:
    """Makes the lazy numbers of a selection. The class that mixes this in has `store` and `select`."""

    __slots__ = ()

    store: Store
    select: Select

    def _number(self, operation: str, property: Any = None, argument: Any = None) -> AggregateQuery:
        field = None if property is None else as_field(property)
        return AggregateQuery(
            engine=self.store.engine,
            plan=Aggregate(select=self.select, operation=operation, field=field, argument=argument),
        )

    def count(self) -> AggregateQuery:
        """How many records; 0 if there is none."""
        return self._number("count")

    def by(self, *dimensions: Any) -> Shaped:
        """Group the number that is named next: `biz.track.Signup.by("plan").count()`."""
        return Shaped(self).by(*dimensions)

    def limit(self, n: int) -> Shaped:
        """The first n groups of the number that is named next, or n events."""
        return Shaped(self).limit(n)

    def offset(self, n: int) -> Shaped:
        """Leave out the first n groups, or n events."""
        return Shaped(self).offset(n)

    def vs(self, previous: str = "prev") -> Shaped:
        """Compare the number that is named next with the previous range's."""
        return Shaped(self).vs(previous)


def needed(property: Any, operation: str) -> Any:
    """The property that an aggregation of events is over. Raises InvalidQuery where it is missing."""
    if property is None:
        raise InvalidQuery(f"{operation}() of events needs a property: {operation}('amount')")
    return property
