"""When an alert fires and when it is over: a state machine per set of tags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

__all__ = ["STATES", "AlertEvent", "Rule", "Status", "advance"]

STATES = ("ok", "pending", "firing")


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """What a notification gets: `since` is when the condition began to hold, `tags` of the set it is about."""

    alert: str
    metric: str
    value: Any
    since: datetime
    tags: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """When it fires and when it is over. Times in microseconds."""

    condition: Callable[[Any], bool]
    cleared: Callable[[Any], bool]
    for_: int = 0
    keep: int = 0
    every: int | None = None
    absent: int | None = None
    min_samples: int = 0


@dataclass(slots=True)
class Status:
    """Where one set of tags is."""

    state: str = "ok"
    value: Any = None
    at: int | None = None
    since: int | None = None
    fired: int | None = None
    told: int | None = None
    clearing: int | None = None
    silent: bool = False
    tags: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def parse(kept: bytes) -> Status:
        return Status(**orjson.loads(kept))


def advance(rule: Rule, status: Status, now: int) -> list[tuple[str, int, int]]:
    """Move a status to an instant, with its value as it is; what happened: ("fire" | "resolve", when, since when
    the condition has held)."""
    told: list[tuple[str, int, int]] = []
    quiet = rule.absent is not None and status.at is not None and now - status.at >= rule.absent
    absent = quiet or status.silent
    holds = absent or (status.value is not None and rule.condition(status.value))
    if status.state != "firing":
        if not holds:
            status.state, status.since = "ok", None
            return told
        if status.since is None:
            status.since = status.at + rule.absent if quiet and status.at is not None and rule.absent else now
        status.state = "pending"
        if now - status.since >= rule.for_:
            status.state, status.fired, status.told = "firing", status.since + rule.for_, now
            status.clearing = None
            told.append(("fire", status.fired, status.since))
        return told
    over = not absent and (status.value is None or rule.cleared(status.value))
    if not over:
        status.clearing = None
        if rule.every is not None and status.told is not None and now - status.told >= rule.every:
            status.told = now
            told.append(("fire", now, status.since if status.since is not None else now))
        return told
    if status.clearing is None:
        status.clearing = now
    if now - status.clearing >= rule.keep:
        status.state, status.clearing, status.told = "ok", None, None
        told.append(("resolve", now, status.since if status.since is not None else now))
        status.since = None
    return told
