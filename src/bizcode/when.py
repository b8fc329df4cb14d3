"""Instants, durations and ranges. Inside, an instant is an int: microseconds since 1970 in UTC."""

from __future__ import annotations

import math
import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from .buckets import UNITS, bucket, bucket_datetime, buckets, next_bucket, offsets
from .errors import InvalidTime

__all__ = [
    "UNITS",
    "Duration",
    "Range",
    "bucket",
    "bucket_datetime",
    "buckets",
    "deadline",
    "duration",
    "exact",
    "instant",
    "next_bucket",
    "offsets",
    "previous",
    "resolve_range",
    "shift",
    "to_datetime",
    "zone",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000
_INSTANT_FORMS = (
    "an aware datetime, a naive datetime or date (in the business's timezone), "
    'ISO text such as "2024-01-31" or "2024-01-31T09:00:00+01:00", or epoch seconds'
)
_DURATION_FORMS = '"30s" "5m" "1h" "7d" "2w" "6mo" "1y" (m is minutes, mo calendar months) or a timedelta'
_PERIODS = {"today": "day", "week": "week", "month": "month", "quarter": "quarter", "year": "year"}


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises InvalidTime for an unknown one.

    >>> zone("Europe/Berlin").key
    'Europe/Berlin'
    """
    if isinstance(name, ZoneInfo):
        return name
    try:
        return ZoneInfo(name)
    except Exception as error:
        raise InvalidTime(
            f"unknown timezone {name!r}: use an IANA name such as 'Europe/Berlin' or 'UTC'"
        ) from error


def to_datetime(us: int, tz: ZoneInfo | None = None) -> datetime:
    """An aware datetime in UTC, or in tz.

    >>> to_datetime(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    moment = _EPOCH + timedelta(microseconds=us)
    return moment if tz is None else moment.astimezone(tz)


def _of_datetime(value: datetime, tz: ZoneInfo) -> int:
    if value.tzinfo is None:
        value = value.replace(tzinfo=tz)
        # A wall time that the clock skips is the instant as far after the gap's start.
    return (value - _EPOCH) // _MICROSECOND


def instant(value: Any, tz: ZoneInfo) -> int:
    """Microseconds since 1970 UTC of any form of an instant.

    Args:
        value: aware datetime, naive datetime or date or ISO text (in tz), epoch seconds.
        tz: where naive forms are read.
    Raises:
        InvalidTime: anything else; the message lists the forms.

    >>> instant("1970-01-01T01:00:00+01:00", zone("UTC")), instant(1.5, zone("UTC"))
    (0, 1500000)
    """
    if isinstance(value, str):
        return _of_text(value, tz)
    if isinstance(value, datetime):
        return _range_checked(_of_datetime, value, tz)
    if isinstance(value, date):
        return _range_checked(_of_datetime, datetime.combine(value, time()), tz)
    if isinstance(value, bool):
        raise InvalidTime(f"{value!r} is no instant: use {_INSTANT_FORMS}")
    if isinstance(value, (int, float, Decimal)):
        if not math.isfinite(value) or abs(value) > 2.5e11:
            raise InvalidTime(f"{value!r} is not in epoch seconds: use {_INSTANT_FORMS}")
        if isinstance(value, float):
            whole = math.floor(value)
            return _within(whole * _SECOND + round((value - whole) * _SECOND), value)
        return _within(int(value * _SECOND), value)
    if hasattr(value, "item") and type(value).__module__ == "numpy":
        return instant(value.item(), tz)
    raise InvalidTime(f"{value!r} is no instant: use {_INSTANT_FORMS}")


_LOW = -62_135_596_800 * _SECOND
_HIGH = 253_402_300_800 * _SECOND
_ISO = re.compile(r"\d{4}-\d\d-\d\d")


def _within(us: int, value: Any) -> int:
    if not _LOW <= us < _HIGH:
        raise InvalidTime(f"{value!r} is outside the years 1 to 9999: use {_INSTANT_FORMS}")
    return us


def _range_checked(function: Any, value: Any, tz: ZoneInfo) -> int:
    try:
        return _within(function(value, tz), value)
    except OverflowError as error:
        raise InvalidTime(f"{value!r} is outside the years 1 to 9999: use {_INSTANT_FORMS}") from error


def _of_text(text: str, tz: ZoneInfo) -> int:
    stripped = text.strip()
    if _ISO.match(stripped):
        try:
            return _range_checked(_of_datetime, datetime.fromisoformat(stripped), tz)
        except ValueError as error:
            if isinstance(error, InvalidTime):
                raise
    raise InvalidTime(f"{text!r} is no instant: use {_INSTANT_FORMS}")


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time: calendar months, and microseconds."""

    months: int = 0
    micros: int = 0

    def __str__(self) -> str:
        parts = []
        if self.months:
            years, months = divmod(self.months, 12)
            parts += [f"{years}y"] if years and not months else [f"{self.months}mo"]
        rest = self.micros
        for name, size in _CANONICAL:
            if rest >= size and rest % size == 0:
                parts.append(f"{rest // size}{name}")
                rest = 0
                break
        if rest or not parts:
            parts.append(f"{rest / _SECOND:g}s")
        return "".join(parts)


_SIZES = {
    "ms": 1_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": 86_400 * _SECOND,
    "w": 604_800 * _SECOND,
}
_CANONICAL = [("d", _SIZES["d"]), ("h", _SIZES["h"]), ("m", _SIZES["m"]), ("s", _SECOND)]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|mo|s|m|h|d|w|y)")


def duration(value: Any, *, zero_ok: bool = False) -> Duration:
    """A length of time from text or a timedelta.

    Args:
        value: "30s", "5m", "1h", "7d", "2w", "6mo", "1y", "1h30m", or a timedelta. A day is 24 hours.
    Raises:
        InvalidTime: anything else, negative, or zero unless zero_ok.

    >>> duration("90m") == duration("1h30m") == duration(timedelta(minutes=90))
    True
    >>> duration("1y")
    Duration(months=12, micros=0)
    """
    if isinstance(value, Duration):
        found = value
    elif isinstance(value, timedelta):
        found = Duration(0, value // _MICROSECOND)
    elif isinstance(value, str):
        found = _duration_of_text(value)
    else:
        raise InvalidTime(f"{value!r} is no duration: use {_DURATION_FORMS}")
    if found.micros < 0 or (not zero_ok and not found.micros and not found.months):
        raise InvalidTime(f"a duration must be longer than zero, {value!r} is not: use {_DURATION_FORMS}")
    if found.micros > 366_000 * _SIZES["d"] or found.months > 12_000:
        raise InvalidTime(f"{value!r} is longer than a thousand years: use {_DURATION_FORMS}")
    return found


@lru_cache(maxsize=1024)
def _duration_of_text(text: str) -> Duration:
    months, micros, at = 0, 0, 0
    stripped = text.strip()
    for match in _DURATION.finditer(stripped):
        if match.start() != at:
            break
        number, unit = match.groups()
        if unit in ("mo", "y"):
            if "." in number:
                raise InvalidTime(f"{text!r}: months and years are whole: use {_DURATION_FORMS}")
            months += int(number) * (12 if unit == "y" else 1)
        else:
            micros += int(Decimal(number) * _SIZES[unit])
        at = match.end()
    if not stripped or at != len(stripped):
        raise InvalidTime(f"{text!r} is no duration: use {_DURATION_FORMS}")
    return Duration(months, micros)


def exact(value: Any, *, zero_ok: bool = False) -> int:
    """Microseconds of a duration that has no calendar months. Raises InvalidTime."""
    found = duration(value, zero_ok=zero_ok)
    if found.months:
        raise InvalidTime(f"{value!r} has no fixed length: use days or weeks here, such as '30d'")
    return found.micros


def shift(us: int, length: Duration, tz: ZoneInfo, back: bool = False) -> int:
    """An instant moved by a duration: months by the calendar in tz, cut to the month's last day and keeping
    the wall time; the rest exactly. Raises InvalidTime outside the years 1 to 9999."""
    sign = -1 if back else 1
    if length.months:
        local = to_datetime(us, tz)
        year, month = divmod(local.year * 12 + local.month - 1 + sign * length.months, 12)
        if not 1 <= year <= 9999:
            raise InvalidTime(f"{length} from {local.isoformat()} is outside the years 1 to 9999")
        day = min(local.day, monthrange(year, month + 1)[1])
        us = _of_datetime(local.replace(year=year, month=month + 1, day=day), tz)
    return _within(us + sign * length.micros, f"{length} from {us}")


@dataclass(frozen=True, slots=True)
class Range:
    """A half-open range [since, until); None is open. `form` says how its start was given:
    "rolling" (a duration), "calendar" (the running period `unit`), "absolute" or "all". A rolling range to
    which no end was given is `to_now`: what is stamped this very instant is its last."""

    since: int | None
    until: int | None
    form: str
    unit: str | None = None
    length: Duration | None = None
    to_now: bool = False

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        return self.since, self.until

    def end(self, now: int) -> int:
        """Where its time ends, for what is measured by its length: now, unless an end was given."""
        return now if self.until is None or self.to_now else self.until


def resolve_range(since: Any, until: Any, now: int, tz: ZoneInfo) -> Range:
    """The range that the user's since and until mean at an instant.

    Args:
        since: None, an instant, a duration back from now, "today", "week", "month", "quarter", "year".
        until: None, or the same forms (a period means its start). Without it a duration back from now ends now,
            what is stamped this very instant included, and every other range is open.
    Raises:
        InvalidTime: neither; or an end before the start.
    """
    start, form, unit, length = _edge(since, now, tz)
    end, _, _, _ = _edge(until, now, tz)
    if start is not None and end is not None and end < start:
        raise InvalidTime(
            f"the range ends ({to_datetime(end, tz).isoformat()}) before it starts ({to_datetime(start, tz).isoformat()})"
        )
    to_now = form == "rolling" and end is None
    return Range(start, now + 1 if to_now else end, form, unit, length, to_now)


def given(bound: Any) -> Any:
    """What the user gave as an end of a range. Raises InvalidTime for None: a slip, not the whole history."""
    if bound is None:
        raise InvalidTime(
            f"None is no instant: leave the bound out, or use {_INSTANT_FORMS}; "
            f"a duration back from now: {_DURATION_FORMS}; or a running period: {', '.join(_PERIODS)}"
        )
    return bound


def _edge(value: Any, now: int, tz: ZoneInfo) -> tuple[int | None, str, str | None, Duration | None]:
    if value is None:
        return None, "all", None, None
    try:
        return _point(value, now, tz)
    except InvalidTime as error:
        reason = str(error).partition(": use ")[0]
        raise InvalidTime(
            f"{reason}: use {_INSTANT_FORMS}; a duration back from now: {_DURATION_FORMS}; "
            f"or a running period: {', '.join(_PERIODS)}"
        ) from error


def _point(value: Any, now: int, tz: ZoneInfo) -> tuple[int, str, str | None, Duration | None]:
    if isinstance(value, timedelta):
        length = duration(value)
        return shift(now, length, tz, back=True), "rolling", None, length
    if isinstance(value, str):
        text = value.strip()
        if text in _PERIODS:
            unit = _PERIODS[text]
            return bucket(now, unit, tz), "calendar", unit, None
        if _DURATION.match(text) and not _ISO.match(text):
            length = duration(text)
            return shift(now, length, tz, back=True), "rolling", None, length
        if not _ISO.match(text):
            raise InvalidTime(f"{value!r} is no point in time")
    return instant(value, tz), "absolute", None, None


_PREVIOUS_UNIT = {
    "prev_week": ("week", Duration(0, _SIZES["w"])),
    "prev_month": ("month", Duration(1)),
    "prev_quarter": ("quarter", Duration(3)),
    "prev_year": ("year", Duration(12)),
}
_PERIOD_LENGTH = {"month": Duration(1), "quarter": Duration(3), "year": Duration(12)}


def previous(range_: Range, now: int, tz: ZoneInfo, kind: str = "prev") -> Range:
    """The range to compare with.

    "prev": of a rolling or absolute range the equally long one just before; of a calendar period the
    period before, up to the same elapsed point. "prev_week", "prev_month", "prev_quarter", "prev_year":
    the same range so much earlier by the calendar, a rolling one equally long.
    """
    if range_.since is None:
        raise InvalidTime("a comparison needs a range: say since when")
    end = range_.end(now)
    if kind == "prev" and range_.form != "calendar":
        if range_.to_now and range_.length is not None and range_.length.months:
            return Range(shift(range_.since, range_.length, tz, back=True), range_.since, "absolute")
        return Range(2 * range_.since - end, range_.since, "absolute")
    if kind == "prev":
        assert range_.unit is not None
        start = bucket(range_.since - 1, range_.unit, tz)
        return Range(start, min(_back(end, range_.unit, tz), range_.since), "absolute")
    until = _earlier(end, kind, tz)
    if range_.to_now and range_.length is not None:
        # As it was asked so much earlier, and as long.
        return Range(shift(until, range_.length, tz, back=True), until, "absolute")
    start = _earlier(range_.since, kind, tz)
    # Both ends may be cut to one last day of a month, the later of them at an earlier time of day.
    return Range(start, max(start, until), "absolute")


def _earlier(us: int, kind: str, tz: ZoneInfo) -> int:
    unit, length = _PREVIOUS_UNIT[kind]
    return _back(us, unit, tz) if unit == "week" else shift(us, length, tz, back=True)


def _back(us: int, unit: str, tz: ZoneInfo) -> int:
    """The same wall time one calendar unit earlier."""
    if unit in _PERIOD_LENGTH:
        return shift(us, _PERIOD_LENGTH[unit], tz, back=True)
    days = {"day": 1, "week": 7}.get(unit)
    if days is None:
        return us - _SIZES[unit[0]]
    local = to_datetime(us, tz)
    return _of_datetime(local.replace(tzinfo=None) - timedelta(days=days), tz)


_QUARTER = re.compile(r"(\d{4})-?[qQ]([1-4])")
_MONTH = re.compile(r"(\d{4})-(\d\d)")
_YEAR = re.compile(r"(\d{4})")


def deadline(value: Any, tz: ZoneInfo) -> int:
    """The end (exclusive) of a date, "2024-Q2", "2024-06", "2024" or 2024; of an instant with a time of day, that
    instant.

    Raises:
        InvalidTime: any other form.
    """
    if isinstance(value, int) and 1000 <= value <= 9999:
        value = str(value)
    if isinstance(value, str):
        text = value.strip()
        if match := _QUARTER.fullmatch(text):
            start = datetime(int(match[1]), 3 * int(match[2]) - 2, 1)
            return next_bucket(bucket(_of_datetime(start, tz), "quarter", tz), "quarter", tz)
        if (match := _MONTH.fullmatch(text)) and 1 <= int(match[2]) <= 12:
            return next_bucket(
                bucket(_of_datetime(datetime(int(match[1]), int(match[2]), 1), tz), "month", tz), "month", tz
            )
        if (match := _YEAR.fullmatch(text)) and int(text) > 0:
            return next_bucket(
                bucket(_of_datetime(datetime(int(match[1]), 1, 1), tz), "year", tz), "year", tz
            )
        if len(text) == 10 and _ISO.fullmatch(text):
            return next_bucket(bucket(_of_text(text, tz), "day", tz), "day", tz)
    elif isinstance(value, date) and not isinstance(value, datetime):
        return next_bucket(bucket(instant(value, tz), "day", tz), "day", tz)
    try:
        return instant(value, tz)
    except InvalidTime as error:
        raise InvalidTime(
            f'{value!r} is no deadline: use a date, "2024-Q2", "2024-06", "2024" or {_INSTANT_FORMS}'
        ) from error
