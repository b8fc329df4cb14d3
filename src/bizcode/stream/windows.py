"""Which windows an instant falls into."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from .. import when
from ..errors import InvalidQuery, InvalidTime
from .steps import Window

__all__ = ["Assigner", "make"]

DAY = 86_400_000_000
_UNITS = {
    "1mo": "month",
    "3mo": "quarter",
    "1y": "year",
    "12mo": "year",
    "1w": "week",
    "7d": "week",
    "1d": "day",
    "24h": "day",
}


def make(kind: str, size: Any, slide: Any = None) -> Window:
    """A checked window. Raises InvalidTime, and InvalidQuery for a slide longer than the size."""
    length = when.duration(size)
    unit = _UNITS.get(size.strip()) if isinstance(size, str) else None
    if kind == "tumbling" and unit is None and length.micros == DAY:
        unit = "day"
    if length.months and (kind != "tumbling" or unit is None):
        raise InvalidTime(
            f"a {kind} window of {size} has no fixed length: months go with tumbling 1mo, 3mo and 1y"
        )
    micros = length.micros
    step = micros if slide is None else when.exact(slide)
    if step > micros and not length.months:
        raise InvalidQuery(f"a window's slide ({slide}) can't be longer than its size ({size})")
    return Window(
        kind,
        micros,
        step,
        unit if kind == "tumbling" else None,
        f"{kind}({size}{'' if slide is None else f', {slide}'})",
    )


class Assigner:
    """The windows [start, end) that hold an instant. Days and longer follow the business's calendar, shorter
    ones are aligned to the epoch in UTC."""

    def __init__(self, window: Window, tz: ZoneInfo) -> None:
        self.window = window
        self._tz = tz
        self._recent: list[tuple[int, int]] = []
        self.fixed = window.unit is None and window.slide % DAY != 0
        """Whether all windows are equally long."""
        self.spans = self._one if self.fixed and window.slide == window.size else self._any

    def _one(self, time: int) -> list[tuple[int, int]]:
        start = time - time % self.window.size
        return [(start, start + self.window.size)]

    def _any(self, time: int) -> list[tuple[int, int]]:
        window = self.window
        if window.kind == "tumbling" and window.unit is not None:
            return [self._calendar(time, window.unit)]
        if not self.fixed:
            return _by_days(window, time, self._tz)
        last = time - time % window.slide
        return [
            (start, start + window.size)
            for start in range(last, time - window.size, -window.slide)
            if start <= time < start + window.size
        ][::-1]

    def _calendar(self, time: int, unit: str) -> tuple[int, int]:
        for span in self._recent:
            if span[0] <= time < span[1]:
                return span
        start = when.bucket(time, unit, self._tz)
        span = (start, when.next_bucket(start, unit, self._tz))
        self._recent = [span, *self._recent[:7]]
        return span


def _by_days(window: Window, time: int, tz: ZoneInfo) -> list[tuple[int, int]]:
    """Windows of whole days between local midnights."""
    size, slide = window.size // DAY, window.slide // DAY
    today = when.bucket(time, "day", tz)
    number = (when.to_datetime(today, tz).toordinal()) - 719_163
    found = []
    first = number // slide * slide
    while first > number - size:
        found.append((_midnight(first, tz), _midnight(first + size, tz)))
        first -= slide
    return [(start, end) for start, end in reversed(found) if start <= time < end]


def _midnight(day: int, tz: ZoneInfo) -> int:
    from datetime import datetime, timedelta

    noon = datetime(1970, 1, 1, 12) + timedelta(days=day)
    return when.bucket(when.instant(noon, tz), "day", tz)
