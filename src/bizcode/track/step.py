"""A step of a funnel, an anchor or activity of a cohort: events of one name that meet conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import values
from ..errors import InvalidQuery
from ..plan.condition import And, Compare, conditions
from ..plan.fields import Field
from ..plan.funnel import StepPlan
from ..query.base import Query

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Step", "step", "step_plan"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Made by `biz.step("PageView")`; `where` and `optional` return changed copies."""

    store: Store
    plan: StepPlan

    def where(self, *given: Any, **properties: Any) -> Step:
        """Only events that meet the conditions, as in `biz.track.X.where(...)`."""
        condition = conditions(given, properties, self.store.tz)
        return replace(self, plan=replace(self.plan, where=And((self.plan.where, condition))))

    def optional(self) -> Step:
        """The step need not happen."""
        return replace(self, plan=replace(self.plan, optional=True))

    def __repr__(self) -> str:
        return f"biz.step({self.plan.event!r})"


def step(store: Store, event: str) -> Step:
    """A step by the event's name. Raises InvalidName."""
    return Step(store, StepPlan(event=values.name(event, "a step's event")))


def step_plan(store: Store, given: Any, *, pages: bool = False, optional: bool = False) -> StepPlan:
    """A step from what a user gives: a Step, an event's name, `biz.track.X` (with its conditions).

    Args:
        pages: "PageView:/pricing" then means where(path="/pricing").
        optional: whether it may be one that need not happen.
    Raises:
        InvalidQuery: anything else. InvalidName: a blank name.
    """
    if isinstance(given, Step):
        if given.plan.optional and not optional:
            raise InvalidQuery(f"only a step of a funnel can be optional: not {given!r} here")
        return given.plan
    if isinstance(given, str):
        name, mark, path = given.partition(":")
        if pages and mark and name and path:
            return StepPlan(event=name, where=Compare(Field(("path",)), "eq", path))
        return StepPlan(event=values.name(given, "an event"))
    select = getattr(given, "select", None)
    if select is not None and getattr(select, "kind", None) == "event" and not isinstance(given, Query):
        if (select.since, select.until) != (None, None):
            raise InvalidQuery(
                "a step has conditions and no range of its own: ask the whole for since() or until()"
            )
        if select.names is not None and len(select.names) != 1:
            raise InvalidQuery("a step is of one event: give its name")
        return StepPlan(event="*" if select.names is None else select.names[0], where=select.where)
    what = f"a query of {given.title}" if isinstance(given, Query) else repr(given)
    raise InvalidQuery(f"a step is an event's name, biz.step(name) or biz.track.Name, not {what}")
