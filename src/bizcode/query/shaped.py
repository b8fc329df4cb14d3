"""A selection whose groups, limits or comparison were named before its number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidQuery
from ..plan.select import AGGREGATIONS

__all__ = ["Shaped"]

_ASKED = frozenset((*AGGREGATIONS, "events", "anomalies", "trend"))


@dataclass(frozen=True, slots=True, eq=False)
class Shaped:
    """What `biz.track.Signup.by("plan")` gives: name the number, `.count()`, and the modifiers apply to it.
    No step, goal or source is made of it, so that no `by` is lost there.

    Args:
        selection: the events or samples.
        changes: the modifiers given so far, each a name and its arguments.
    """

    selection: Any
    changes: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def where(self, *conditions: Any, **properties: Any) -> Shaped:
        """Only records that meet the conditions; see `Selection.where`."""
        return replace(self, selection=self.selection.where(*conditions, **properties))

    def since(self, start: Any) -> Shaped:
        """Only records from then on."""
        return replace(self, selection=self.selection.since(start))

    def until(self, end: Any) -> Shaped:
        """Only records before then."""
        return replace(self, selection=self.selection.until(end))

    def between(self, start: Any, end: Any) -> Shaped:
        """Only records of [start, end)."""
        return replace(self, selection=self.selection.between(start, end))

    def by(self, *dimensions: Any) -> Shaped:
        """Group by properties and at most one time bucket."""
        return self._then("by", *dimensions)

    def limit(self, n: int) -> Shaped:
        """The first n groups, or n events."""
        return self._then("limit", n)

    def offset(self, n: int) -> Shaped:
        """Leave out the first n."""
        return self._then("offset", n)

    def vs(self, previous: str = "prev") -> Shaped:
        """Beside the previous range."""
        return self._then("vs", previous)

    def _then(self, name: str, *arguments: Any) -> Shaped:
        changed = replace(self, changes=(*self.changes, (name, arguments)))
        changed._applied(self.selection.count(), "count")  # a wrong argument is told where it is given
        return changed

    def _applied(self, query: Any, asked: str) -> Any:
        for name, arguments in self.changes:
            modifier = getattr(query, name, None)
            if modifier is None:
                raise InvalidQuery(f"{asked}() has no {name}(): that goes with a number, like count()")
            query = modifier(*arguments)
        return query

    def __getattr__(self, name: str) -> Any:
        number = getattr(self.selection, name, None) if name in _ASKED else None
        if number is None:
            raise AttributeError(f"{self!r} has no {name!r}: name a number, like .count()")
        return lambda *given, **options: self._applied(number(*given, **options), name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in _ASKED if hasattr(self.selection, name))})

    def __repr__(self) -> str:
        names = ", ".join(getattr(self.selection.select, "names", None) or ("all events",))
        return f"{names}{''.join(f'.{name}({_shown(arguments)})' for name, arguments in self.changes)}"


def _shown(arguments: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, arguments))
