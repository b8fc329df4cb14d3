"""What an experiment is, checked, and where it stands. State space "define:experiment", key = its name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from .. import values, when
from ..errors import InvalidQuery, InvalidValue
from ..plan.condition import Condition, conditions
from ..plan.spec import condition_of, spec_of
from .goal import Goal, goal_of

__all__ = ["SPACE", "STATES", "Definition", "ExperimentInfo", "State", "define"]

SPACE = "define:experiment"
STATES = ("draft", "running", "paused", "stopped", "graduated")
DIRECTIONS = ("increase", "decrease")
_TOLERANCE = 1e-6 + 1e-12
"""A millionth, and what its own rounding needs."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked definition. `goal` and `audience` are None where there is none, or where they hold
    functions that this process has not been given (the spec then says so)."""

    name: str
    variants: tuple[str, ...]
    weights: tuple[float, ...]
    goal: Goal | None
    audience: Condition | None
    duration: when.Duration | None
    min_sample_size: int | None
    direction: str
    spec: dict[str, Any]

    @property
    def needs_goal(self) -> bool:
        """Its goal holds a function that this process doesn't have."""
        return self.goal is None and self.spec["goal"] is not None

    @property
    def needs_audience(self) -> bool:
        """Its audience holds a function that this process doesn't have."""
        return self.audience is None and self.spec["audience"] is not None

    @staticmethod
    def of_spec(spec: dict[str, Any]) -> Definition:
        """The definition as it was stored, without functions."""
        goal, audience, duration = spec["goal"], spec["audience"], spec["duration"]
        return Definition(
            spec["name"],
            tuple(spec["variants"]),
            tuple(spec["weights"]),
            None if goal is None else Goal.of_spec(goal),
            None if audience is None else condition_of(audience),
            None if duration is None else when.Duration(*duration),
            spec["min_sample_size"],
            spec["direction"],
            spec,
        )


@dataclass(frozen=True, slots=True)
class State:
    """Where an experiment stands; times in microseconds. `reason` says what ended it: "stop", "duration",
    "min_sample_size", "graduate"."""

    spec: dict[str, Any]
    number: int
    defined: int
    status: str = "draft"
    started: int | None = None
    ended: int | None = None
    winner: str | None = None
    reason: str | None = None

    def encode(self) -> bytes:
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def decode(text: bytes) -> State:
        return State(**orjson.loads(text))


@dataclass(frozen=True, slots=True)
class ExperimentInfo:
    """An experiment at a glance. `goal` and `audience` are in words; times are aware, in the business's
    timezone; `ends` is the planned end; `reason` what ended it: "stop", "duration", "min_sample_size",
    "graduate"."""

    name: str
    status: str
    variants: tuple[str, ...]
    weights: tuple[float, ...]
    goal: str | None
    audience: str | None
    duration: str | None
    min_sample_size: int | None
    direction: str
    defined: datetime
    started: datetime | None
    ends: datetime | None
    ended: datetime | None
    reason: str | None
    winner: str | None


def define(
    name: Any,
    variants: Any,
    weights: Any,
    goal: Any,
    audience: Any,
    duration: Any,
    min_sample_size: Any,
    direction: Any,
    tz: ZoneInfo,
) -> Definition:
    """A checked definition; see `Experiments.define` for what each part means and raises."""
    name = values.name(name, "an experiment")
    checked = _variants(variants)
    shares = _weights(weights, checked)
    found_goal = None if goal is None else goal_of(goal)
    found_audience = None if audience is None else _audience(audience, tz)
    length = None if duration is None else when.duration(duration)
    if min_sample_size is not None and (
        isinstance(min_sample_size, bool) or not isinstance(min_sample_size, int) or min_sample_size < 1
    ):
        raise InvalidValue(
            f"min_sample_size= is the number of users in each variant, at least 1, not {min_sample_size!r}"
        )
    if direction not in DIRECTIONS:
        raise InvalidValue(f"direction= is one of {', '.join(DIRECTIONS)}, not {direction!r}")
    spec = {
        "name": name,
        "variants": list(checked),
        "weights": list(shares),
        "goal": None if found_goal is None else found_goal.spec(),
        "audience": spec_of(found_audience),
        "duration": None if length is None else [length.months, length.micros],
        "min_sample_size": min_sample_size,
        "direction": direction,
    }
    return Definition(
        name, checked, shares, found_goal, found_audience, length, min_sample_size, direction, spec
    )


def _variants(given: Any) -> tuple[str, ...]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidValue(f"variants= takes a list of names, the control first, not {given!r}")
    found = tuple(values.name(item, "a variant") for item in given)
    if len(found) < 2:
        raise InvalidValue(f"an experiment has 2 variants or more, {len(found)} were given")
    twice = next((item for n, item in enumerate(found) if item in found[:n]), None)
    if twice is not None:
        raise InvalidValue(f"variants have names of their own, {twice!r} stands twice")
    return found


def _weights(given: Any, variants: tuple[str, ...]) -> tuple[float, ...]:
    count = len(variants)
    if given is None:
        return (1 / count,) * count
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidValue(f"weights= takes a list of shares, one for each variant, not {given!r}")
    found = tuple(given)
    if len(found) != count:
        raise InvalidValue(
            f"weights= has {len(found)} shares for {count} variants: give one for each variant"
        )
    for variant, weight in zip(variants, found, strict=True):
        if (
            isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not math.isfinite(weight)
            or weight <= 0
        ):
            raise InvalidValue(f"the weight of {variant!r} must be a number greater than 0, not {weight!r}")
    total = math.fsum(found)
    if abs(total - 1) > _TOLERANCE:
        raise InvalidValue(f"weights must sum to 1, these sum to {total:g}")
    return tuple(map(float, found))


def _audience(given: Any, tz: ZoneInfo) -> Condition:
    if not callable(given) and not isinstance(given, (Mapping, Condition)):
        raise InvalidQuery(
            f"audience= takes a function of a user, a mapping like {{'plan': 'free'}} or a `this` "
            f"expression, not {given!r}"
        )
    return conditions([given], {}, tz)
