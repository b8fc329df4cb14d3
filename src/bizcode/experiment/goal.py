"""What an experiment optimises: one number for each exposed user, told by a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import InvalidQuery
from ..plan.fields import Field
from ..plan.select import Aggregate, Select
from ..plan.spec import field_of, select_of, spec_of
from ..query import AggregateQuery
from ..record import MEASURE

__all__ = ["Goal", "goal_of"]

_TAKEN = "a ratio, count(), unique(), sum(), avg(), median() or percentile() of biz.track or biz.measure"


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal's plan.

    kind: "conversion" (did it at all), "count" (how often), "distinct" (how many values of the field),
    "sum", "avg" (of the user's own values), "percentile" (of all values; `argument` from 0 to 1).
    `field` None with a measurement means its value. `denominator` is kept to tell definitions apart.
    """

    kind: str
    select: Select
    field: Field | None = None
    argument: float | None = None
    denominator: Select | None = None

    @property
    def proportion(self) -> bool:
        """Whether each user either does it or not."""
        return self.kind == "conversion"

    @property
    def text(self) -> str:
        """What the goal is, in words."""
        names = "any event" if self.select.names is None else " or ".join(self.select.names)
        what = f"{self.field}" if self.field is not None else "value"
        of = names if self.select.kind == MEASURE and self.field is None else f"{what} of {names}"
        if self.kind == "percentile":
            return f"percentile {100 * (self.argument or 0):g} of {of}"
        return {
            "conversion": f"users with {names}",
            "count": f"{names} per user",
            "distinct": f"distinct {what} of {names} per user",
            "sum": f"sum of {of} per user",
            "avg": f"average of {of} per user",
        }[self.kind]

    def spec(self) -> dict[str, Any]:
        """The goal as a JSON value."""
        return {
            "kind": self.kind,
            "select": spec_of(self.select),
            "field": spec_of(self.field),
            "argument": self.argument,
            "denominator": spec_of(self.denominator),
        }

    @staticmethod
    def of_spec(spec: dict[str, Any]) -> Goal | None:
        """The goal of a spec, None where its conditions hold a function."""
        select = select_of(spec["select"])
        if select is None:
            return None
        below = None if spec["denominator"] is None else select_of(spec["denominator"])
        return Goal(spec["kind"], select, field_of(spec["field"]), spec["argument"], below)


def goal_of(query: Any) -> Goal:
    """The goal that a query tells.

    Args:
        query: `biz.track.ratio(...)`: users who did the numerator; `unique()`: users who did it;
            `count()`: how often; `sum`, `avg`, `median`, `percentile` of a property, or of a measure.
    Raises:
        InvalidQuery: another query, one with groups, a comparison or a range of its own.
    """
    numerator = getattr(query, "numerator", None)
    if isinstance(numerator, Select):
        top = getattr(getattr(query, "top", None), "plan", None)
        if isinstance(top, Aggregate):
            _refuse(top)
        _refuse_range(numerator)
        return Goal("conversion", numerator, denominator=query.denominator)
    if not isinstance(query, AggregateQuery):
        raise InvalidQuery(f"an experiment's goal is {_TAKEN}, not {type(query).__name__}")
    plan = query.plan
    _refuse(plan)
    _refuse_range(plan.select)
    operation, field = plan.operation, plan.field
    if operation == "unique":
        return Goal("conversion" if field is None else "distinct", plan.select, field)
    if operation == "count":
        return Goal("count", plan.select)
    if operation in ("sum", "avg"):
        return Goal(operation, plan.select, field)
    if operation == "median":
        return Goal("percentile", plan.select, field, 0.5)
    if operation == "percentile":
        if not 0 < plan.argument < 100:
            raise InvalidQuery(
                f"percentile {plan.argument} has no interval as an experiment's goal: take one between 0 and 100"
            )
        return Goal("percentile", plan.select, field, float(plan.argument) / 100)
    raise InvalidQuery(f"{operation}() can't be an experiment's goal: it is {_TAKEN}")


def _refuse(plan: Aggregate) -> None:
    if plan.by or plan.vs is not None or plan.limit is not None or plan.offset:
        raise InvalidQuery(
            "an experiment's goal is one number: without by(), vs(), limit() and offset(); "
            "ask for groups by results(by=...)"
        )


def _refuse_range(select: Select) -> None:
    if select.since is not None or select.until is not None:
        raise InvalidQuery(
            "an experiment's goal has no range of its own: results count each user from the first exposure on"
        )
