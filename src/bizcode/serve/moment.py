"""When an event happened, by the server's clock, if the client's clock is wrong."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from .. import when

__all__ = ["corrected", "instant"]

NETWORK = 10_000_000
"""Microseconds by which sending may take longer: less than that is no fault of the clock."""
AHEAD = 86_400_000_000
_UTC = ZoneInfo("UTC")


def instant(value: Any) -> int | None:
    """Microseconds since 1970 of what a client sent; None for nothing. A time without a zone is UTC.
    Raises InvalidTime."""
    return None if value is None or value == "" else when.instant(value, _UTC)


def corrected(timestamp: int | None, sent: int | None, now: int) -> tuple[int, bool]:
    """(when it happened, whether the given time was of no use).

    The client's clock is wrong by what lies between its sending and our receiving, beyond what a network
    takes; the event's time is shifted by that. What is still more than a day ahead happened now.

    >>> corrected(1_000_000, 3_600_000_000, 60_000_000)
    (-3539000000, False)
    """
    if timestamp is None:
        return now, False
    if sent is not None and abs(now - sent) > NETWORK:
        timestamp += now - sent
    return (timestamp, False) if timestamp <= now + AHEAD else (now, True)
