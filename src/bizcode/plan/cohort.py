"""What a cohort analysis asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .condition import TRUE, Condition
from .fields import Field
from .funnel import StepPlan
from .select import Dimension

__all__ = ["CohortPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortPlan:
    """Users by the calendar bucket of their anchor event, and their activity in the periods after it."""

    anchor: StepPlan
    activity: StepPlan
    periods: int
    granularity: str
    recurring: bool = False
    rolling: bool = False
    cumulative: bool = False
    min_count: int = 1
    value: Field | None = None
    where: Condition = TRUE
    since: Any = None
    until: Any = None
    by: tuple[Dimension, ...] = ()
