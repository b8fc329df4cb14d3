"""Calendar buckets in a time zone: where they start, what comes next, and the zone's offsets."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

__all__ = ["UNITS", "aligned", "bucket", "bucket_datetime", "buckets", "next_bucket", "offsets"]

UNITS = ("minute", "hour", "day", "week", "month", "quarter", "year")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_WIDTH = {"minute": 60_000_000, "hour": 3_600_000_000}
_DAY = 86_400_000_000


def _offset(us: int, tz: ZoneInfo) -> int:
    """The zone's offset from UTC at an instant, in microseconds."""
    offset = (_EPOCH + timedelta(microseconds=us)).astimezone(tz).utcoffset()
    return 0 if offset is None else offset // _MICROSECOND


def bucket(us: int, unit: str, tz: ZoneInfo) -> int:
    """The start of the calendar bucket that holds an instant.

    Minutes and hours are floored on the wall clock with the offset valid at the instant, and end where
    the offset changes, so the two 02:00 hours of an autumn night are two. A longer bucket starts at
    the first instant of its first day.
    """
    offset = _offset(us, tz)
    width = _WIDTH.get(unit)
    if width is not None:
        start = (us + offset) // width * width - offset
        return start if _offset(start, tz) == offset else _changes(tz, start, us)[-1]
    return _midnight(_first_day((us + offset) // _DAY, unit), tz)


def _first_day(day: int, unit: str) -> int:
    """The number since 1970-01-01 of the first day of the unit that holds a day."""
    if unit == "day":
        return day
    if unit == "week":
        return (day + 3) // 7 * 7 - 3
    local = _NAIVE + timedelta(days=day)
    if unit == "month":
        local = local.replace(day=1)
    elif unit == "quarter":
        local = local.replace(month=(local.month - 1) // 3 * 3 + 1, day=1)
    elif unit == "year":
        local = local.replace(month=1, day=1)
    else:
        raise ValueError(f"unknown unit {unit!r}")
    return (local - _NAIVE).days


@lru_cache(maxsize=4096)
def _midnight(day: int, tz: ZoneInfo) -> int:
    """The first instant of a local day: midnight, or where the clock skips it the instant after the gap."""
    wall = day * _DAY
    # The first of the instants at which the wall clock can show midnight or later on that day.
    candidates = sorted({wall - _offset(wall - shift, tz) for shift in (-_DAY, 0, _DAY)})
    for start in candidates:
        if (start + _offset(start, tz)) // _DAY == day and (start - 1 + _offset(start - 1, tz)) // _DAY < day:
            return start
    for start in _changes(tz, wall - 2 * _DAY, wall + 2 * _DAY):
        if (start + _offset(start, tz)) // _DAY >= day > (start - 1 + _offset(start - 1, tz)) // _DAY:
            return start
    return candidates[0]


def next_bucket(start: int, unit: str, tz: ZoneInfo) -> int:
    """The start of the bucket after the one that starts there."""
    width = _WIDTH.get(unit)
    if width is not None:
        offset = _offset(start, tz)
        end = ((start + offset) // width + 1) * width - offset
        changes = _changes(tz, start, end - 1)
        return changes[0] if changes else end
    day = (start + _offset(start, tz)) // _DAY
    if unit == "day":
        following = day + 1
    elif unit == "week":
        following = day + 7
    else:
        months = {"month": 1, "quarter": 3, "year": 12}[unit]
        local = _NAIVE + timedelta(days=day)
        year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
        following = (datetime(year, month + 1, 1) - _NAIVE).days
    after = _midnight(following, tz)
    # A whole day that a zone skipped (Samoa, 2011-12-30) has no bucket of its own.
    return after if after > start else _midnight(following + 1, tz)


def buckets(since: int, until: int, unit: str, tz: ZoneInfo) -> list[int]:
    """The starts of all buckets that meet [since, until)."""
    if until <= since:
        return []
    found = [bucket(since, unit, tz)]
    while (start := next_bucket(found[-1], unit, tz)) < until:
        found.append(start)
    return found


def bucket_datetime(start: int, unit: str, tz: ZoneInfo) -> datetime:
    """A bucket's start as an aware datetime with the offset valid at that instant.

    The offset is fixed, not the zone: two datetimes of one zone compare by the wall clock alone,
    and the two 02:00 hours of an autumn night would be one key.
    """
    moment = (_EPOCH + timedelta(microseconds=start)).astimezone(tz)
    return moment.replace(tzinfo=timezone(moment.utcoffset() or timedelta(0)), fold=0)


def aligned(key: int, unit: str, tz: ZoneInfo) -> int:
    """The start of the minute or hour whose wall clock floor, less the offset of its instants, is key."""
    width = _WIDTH[unit]
    if (key + _offset(key, tz)) % width == 0:
        return key
    changes = _changes(tz, key, key + width)
    return changes[0] if changes else key


def _changes(tz: ZoneInfo, since: int, until: int) -> list[int]:
    """The instants within (since, until] at which the zone's offset changes."""
    return [at for at, _ in offsets(tz, since, until + 1)[1:]]


@lru_cache(maxsize=256)
def _year_changes(tz: ZoneInfo, year: int) -> tuple[tuple[int, int], ...]:
    """(instant, offset from then on) of the changes within a year of UTC, by bisection between days."""
    start = (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    end = (
        (datetime(year + 1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND if year < 9999 else start + 365 * _DAY
    )
    found = []
    low, before = start, _offset(start, tz)
    while low < end:
        high = min(low + _DAY, end)
        after = _offset(high, tz) if high < end or year < 9999 else before
        if after != before:
            left, right = low, high
            while right - left > 1:
                middle = (left + right) // 2
                if _offset(middle, tz) == before:
                    left = middle
                else:
                    right = middle
            found.append((right, after))
        low, before = high, after
    return tuple(found)


def offsets(tz: ZoneInfo, since: int, until: int) -> list[tuple[int, int]]:
    """The zone's offsets over [since, until): [(from, offset)], in microseconds, the first from `since` on."""
    found = [(since, _offset(since, tz))]
    if tz.key == "UTC":
        return found
    first = (_EPOCH + timedelta(microseconds=since)).year
    last = (_EPOCH + timedelta(microseconds=max(since, until - 1))).year
    for year in range(first, last + 1):
        changes = _year_changes(tz, year)
        at = bisect_right(changes, (since, 1 << 62))
        found += [change for change in changes[at:] if change[0] < until]
    return found
