"""What a funnel asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .condition import TRUE, And, Condition, Named
from .fields import Field
from .select import Dimension

__all__ = ["Exclusion", "FunnelPlan", "StepPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Events of one name ("*": any) that meet a condition."""

    event: str
    where: Condition = TRUE
    optional: bool = False

    @property
    def condition(self) -> Condition:
        """Whether a record is this step."""
        if self.event == "*":
            return self.where
        return And((Named(self.event), self.where))

    @property
    def title(self) -> str:
        """How the step is shown."""
        return self.event


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An event that ends an attempt when it comes after one step and before another (counted from 1)."""

    step: StepPlan
    after: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelPlan:
    """Steps, their order ("ordered", "strict", "unordered"), the window in microseconds (None: none),
    and what bounds and splits the attempts."""

    steps: tuple[StepPlan, ...]
    order: str = "ordered"
    window: int | None = None
    where: Condition = TRUE
    since: Any = None
    until: Any = None
    exclusions: tuple[Exclusion, ...] = ()
    hold: tuple[Field, ...] = ()
    by: tuple[Dimension, ...] = ()
    attribution: str | int = "first"

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the events that the plan reads, None for all."""
        events = [step.event for step in self.steps] + [x.step.event for x in self.exclusions]
        if self.order == "strict" or "*" in events:
            return None
        return tuple(dict.fromkeys(events))
