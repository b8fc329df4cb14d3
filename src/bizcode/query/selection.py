"""Which records: the modifiers that every question about records shares."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from .. import when
from ..errors import InvalidQuery
from ..plan.condition import conditions
from ..plan.select import Select

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["Selection"]


class Selection:
    """Modifiers of a selection of records; each returns a changed copy, in any order.

    The class that mixes this in is a frozen dataclass with `engine` and `select`.
    """

    __slots__ = ()

    engine: Engine
    select: Select

    def _with(self, select: Select) -> Self:
        return replace(self, select=select)  # type: ignore[type-var]

    def where(self, *conditions_: Any, **properties: Any) -> Self:
        """Only records that meet the conditions; several are ANDed.

        Args:
            conditions_: mappings (`{"amount": {"gte": 100}}`), `this` expressions, functions of a record.
            properties: `plan="pro"`, `amount__gte=100`; a list means "in".
        Raises:
            InvalidQuery: an unknown operator, or a value that it can't take.
        """
        return self._with(self.select.and_where(conditions(conditions_, properties, self.engine.tz)))

    def since(self, start: Any) -> Self:
        """Only records from then on: an instant, a duration back from now ("7d": up to now, where no `until` is
        given), or the running "today", "week", "month", "quarter", "year". Raises InvalidTime."""
        _check(when.given(start), None, self.engine)
        return self._with(replace(self.select, since=start))

    def until(self, end: Any) -> Self:
        """Only records before then. Raises InvalidTime."""
        _check(None, when.given(end), self.engine)
        return self._with(replace(self.select, until=end))

    def between(self, start: Any, end: Any) -> Self:
        """Only records of [start, end). Raises InvalidTime."""
        _check(when.given(start), when.given(end), self.engine)
        return self._with(replace(self.select, since=start, until=end))


def _check(start: Any, end: Any, engine: Engine) -> None:
    when.resolve_range(start, end, engine.clock.now(), engine.tz)


def check_count(value: Any, what: str) -> int:
    """A row count for limit and offset. Raises InvalidQuery."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidQuery(f"{what}() takes a whole number of at least 0, not {value!r}")
    return value
