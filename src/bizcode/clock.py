"""Where now comes from. Instants are integers inside: microseconds since 1970 in UTC."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from . import when

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Tells the present instant."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1000


class ManualClock:
    """A clock that moves only when told, for tests and simulations.

    Args:
        start: an instant in any form that `biz` takes: an aware datetime, ISO text,
            a date, epoch seconds. Naive forms are read in `timezone`.
        timezone: IANA name for naive instants given to this clock.

    >>> clock = ManualClock("2024-01-01")
    >>> clock.advance("36h")
    >>> clock
    ManualClock('2024-01-02T12:00:00+00:00')
    """

    def __init__(self, start: object = "2024-01-01", timezone: str = "UTC") -> None:
        self._timezone = timezone
        self._lock = threading.Lock()
        self._now = self._instant(start)

    def _instant(self, value: object) -> int:
        return when.instant(value, when.zone(self._timezone))

    def now(self) -> int:
        return self._now

    def advance(self, duration: object) -> None:
        """Move forward by a duration such as "5m", "36h", "1mo" or a timedelta."""
        with self._lock:
            self._now = when.shift(self._now, when.duration(duration), when.zone(self._timezone))

    def set(self, instant: object) -> None:
        """Move to an instant, forward or back."""
        with self._lock:
            self._now = self._instant(instant)

    def __repr__(self) -> str:
        return f"ManualClock({when.to_datetime(self._now).isoformat()!r})"
