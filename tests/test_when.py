"""Time: against the zone database itself, across daylight saving and leap days."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode import InvalidTime, ManualClock, when

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/Sao_Paulo",
]
zones = st.sampled_from(ZONES).map(when.zone)
instants = st.integers(min_value=-(10**15), max_value=2 * 10**15)
units = st.sampled_from(when.UNITS)
UTC_ZONE = when.zone("UTC")
BERLIN = when.zone("Europe/Berlin")


def at(text: str, tz: ZoneInfo = UTC_ZONE) -> int:
    return when.instant(text, tz)


def near_changes(tz: ZoneInfo) -> list[int]:
    return [start for start, _ in when.offsets(tz, 0, 2 * 10**15)[1:]]


@settings(max_examples=200, deadline=None)
@given(zones, instants, units, st.integers(min_value=-4 * 3600, max_value=4 * 3600), st.randoms())
def test_a_bucket_holds_its_instant_and_the_next_begins_where_it_ends(tz, us, unit, seconds, rng):
    changes = near_changes(tz)
    if changes and rng.random() < 0.5:
        us = rng.choice(changes) + seconds * 1_000_000
    start = when.bucket(us, unit, tz)
    end = when.next_bucket(start, unit, tz)
    assert start <= us < end
    assert when.bucket(start, unit, tz) == start
    assert when.bucket(end - 1, unit, tz) == start
    assert when.bucket(end, unit, tz) == end


@settings(max_examples=50, deadline=None)
@given(zones, instants, st.integers(min_value=1, max_value=400))
def test_days_follow_the_wall_clock(tz, us, days):
    starts = when.buckets(us, us + days * 86_400_000_000, "day", tz)
    dates = [when.to_datetime(start, tz).date() for start in starts]
    assert dates == sorted(set(dates))
    assert when.to_datetime(us, tz).date() == dates[0]
    for start in starts:
        assert when.bucket_datetime(start, "day", tz).utcoffset() == when.to_datetime(start, tz).utcoffset()


@settings(max_examples=50, deadline=None)
@given(zones, instants, instants)
def test_offsets_agree_with_the_zone_everywhere(tz, us, other):
    low, high = min(us, other), min(max(us, other), min(us, other) + 10**14) + 1
    pieces = when.offsets(tz, low, high)
    assert pieces[0][0] == low
    for n, (start, offset) in enumerate(pieces):
        end = pieces[n + 1][0] if n + 1 < len(pieces) else high
        for moment in (start, (start + end) // 2, end - 1):
            assert when.to_datetime(moment, tz).utcoffset() == timedelta(microseconds=offset)


def test_every_form_of_an_instant():
    expected = 1_704_106_800_000_000
    aware = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    for form in (
        aware,
        "2024-01-01T12:00:00+01:00",
        "2024-01-01T11:00Z",
        1_704_106_800,
        1_704_106_800.0,
        Decimal(1_704_106_800),
    ):
        assert when.instant(form, BERLIN) == expected
    for form in (datetime(2024, 1, 1, 12), "2024-01-01 12:00", "2024-01-01T12:00:00"):
        assert when.instant(form, BERLIN) == expected
    assert (
        when.instant(date(2024, 1, 1), BERLIN)
        == when.instant("2024-01-01", BERLIN)
        == expected - 12 * 3_600_000_000
    )
    assert when.instant(1.000001, UTC_ZONE) == 1_000_001


@pytest.mark.parametrize(
    "bad", [True, None, "", "soon", "2024-13-01", "2024-02-30", "24", math.nan, math.inf, 10**18, [], "7d"]
)
def test_what_is_no_instant_names_the_forms(bad):
    with pytest.raises(InvalidTime, match="epoch seconds"):
        when.instant(bad, UTC_ZONE)


@pytest.mark.parametrize(
    ("text", "months", "seconds"),
    [("30s", 0, 30), ("5m", 0, 300), ("1h", 0, 3600), ("7d", 0, 604_800), ("2w", 0, 1_209_600), ("6mo", 6, 0), ("1y", 12, 0), ("1h30m", 0, 5400), ("500ms", 0, 0.5)],
)  # fmt: skip
def test_durations(text, months, seconds):
    found = when.duration(text)
    assert (found.months, found.micros) == (months, seconds * 1_000_000)
    assert when.duration(str(found)) == found


@pytest.mark.parametrize(
    "bad", ["", "7", "d", "7x", "-1d", "0s", "1.5mo", "1d ago", None, 5, timedelta(0), timedelta(-1)]
)
def test_what_is_no_duration(bad):
    with pytest.raises(InvalidTime, match="calendar months"):
        when.duration(bad)


def test_a_month_back_is_cut_to_the_months_last_day_and_keeps_the_wall_time():
    month = when.duration("1mo")
    assert (
        when.to_datetime(when.shift(at("2024-03-31T09:00"), month, UTC_ZONE, back=True)).isoformat()
        == "2024-02-29T09:00:00+00:00"
    )
    assert when.to_datetime(when.shift(at("2023-03-31"), month, UTC_ZONE, back=True)).date() == date(
        2023, 2, 28
    )
    moved = when.shift(at("2024-04-15T09:00", BERLIN), month, BERLIN, back=True)
    assert when.to_datetime(moved, BERLIN).hour == 9
    assert (
        when.shift(at("2024-03-31T09:00", BERLIN), when.duration("1d"), BERLIN, back=True)
        == at("2024-03-31T09:00", BERLIN) - 86_400_000_000
    )


def shown(found: when.Range) -> list[str]:
    return [when.to_datetime(end).isoformat()[:16] for end in found.bounds if end is not None]


def previous(since: str, now: str, kind: str = "prev") -> list[str]:
    found = when.resolve_range(since, None, at(now), UTC_ZONE)
    return shown(when.previous(found, at(now), UTC_ZONE, kind))


def test_the_range_before():
    assert previous("7d", "2024-03-15T12:00") == ["2024-03-01T12:00", "2024-03-08T12:00"]
    assert previous("week", "2024-03-13T12:00") == ["2024-03-04T00:00", "2024-03-06T12:00"]
    assert previous("month", "2024-03-31T12:00") == ["2024-02-01T00:00", "2024-02-29T12:00"]
    assert previous("year", "2024-02-29T12:00", "prev_year") == ["2023-01-01T00:00", "2023-02-28T12:00"]
    assert previous("today", "2024-03-13T12:00", "prev_week") == ["2024-03-06T00:00", "2024-03-06T12:00"]
    assert previous("2024-03-10", "2024-03-13") == ["2024-03-07T00:00", "2024-03-10T00:00"]


def test_a_rolling_range_so_much_earlier_is_as_long():
    assert previous("7d", "2024-02-29T12:00", "prev_year") == ["2023-02-21T12:00", "2023-02-28T12:00"]
    assert previous("7d", "2024-03-31T12:00", "prev_month") == ["2024-02-22T12:00", "2024-02-29T12:00"]
    assert previous("1mo", "2024-03-31T12:00", "prev_month") == ["2024-01-29T12:00", "2024-02-29T12:00"]
    now = at("2024-04-01T12:00", BERLIN)
    found = when.previous(when.resolve_range("2d", None, now, BERLIN), now, BERLIN, "prev_week")
    assert found.bounds == (at("2024-03-23T12:00", BERLIN), at("2024-03-25T12:00", BERLIN))


def test_ends_that_are_cut_to_one_day_leave_an_empty_range():
    now = at("2024-03-31T12:00")
    range_ = when.resolve_range("2024-03-30T21:00", "2024-03-31T09:00", now, UTC_ZONE)
    found = when.previous(range_, now, UTC_ZONE, "prev_month")
    assert shown(found) == ["2024-02-29T21:00", "2024-02-29T21:00"]


def test_a_duration_back_ends_now_and_has_the_instant_itself():
    now = at("2024-03-15T12:00")
    found = when.resolve_range("7d", None, now, UTC_ZONE)
    assert found.bounds == (at("2024-03-08T12:00"), now + 1)
    assert found.end(now) - found.since == 7 * 86_400_000_000
    assert when.resolve_range(timedelta(days=7), None, now, UTC_ZONE) == found
    given = when.resolve_range("7d", "2024-03-20", now, UTC_ZONE)
    assert given.bounds == (at("2024-03-08T12:00"), at("2024-03-20"))
    assert not given.to_now
    for since in ("today", "2024-03-01", None):
        assert when.resolve_range(since, None, now, UTC_ZONE).until is None


def test_calendar_periods_begin_in_the_business_timezone():
    now = at("2024-03-31T12:00", BERLIN)
    starts = {
        unit: when.resolve_range(unit, None, now, BERLIN).since
        for unit in ("today", "week", "month", "quarter", "year")
    }
    expected = {
        "today": "2024-03-31",
        "week": "2024-03-25",
        "month": "2024-03-01",
        "quarter": "2024-01-01",
        "year": "2024-01-01",
    }
    assert starts == {unit: at(day, BERLIN) for unit, day in expected.items()}
    with pytest.raises(InvalidTime, match="before it starts"):
        when.resolve_range("2024-02-01", "2024-01-01", now, BERLIN)


@pytest.mark.parametrize(
    "bad", ["fortnight", "1mon", "2024-13-01", "0d", "-7d", "", [], True, math.nan, timedelta(0)]
)
def test_what_is_no_end_of_a_range_names_all_the_forms(bad):
    for since, until in ((bad, None), (None, bad)):
        with pytest.raises(InvalidTime) as raised:
            when.resolve_range(since, until, at("2024-03-31T12:00"), BERLIN)
        for form in ("aware datetime", "epoch seconds", '"7d"', "timedelta", "running period: today, week"):
            assert form in str(raised.value)


@pytest.mark.parametrize(
    ("text", "end"),
    [("2024-03-31", "2024-04-01"), ("2024-Q2", "2024-07-01"), ("2024-02", "2024-03-01"), ("2024", "2025-01-01"), (2024, "2025-01-01"), (date(2024, 1, 5), "2024-01-06")],
)  # fmt: skip
def test_a_deadline_is_the_end_of_its_period(text, end):
    assert when.deadline(text, BERLIN) == at(end, BERLIN)


def test_an_unknown_zone_and_a_bad_deadline():
    with pytest.raises(InvalidTime, match="IANA"):
        when.zone("Mars/Olympus")
    for bad in ("2024-Q5", "someday", None, "2024-13"):
        with pytest.raises(InvalidTime):
            when.deadline(bad, UTC_ZONE)


def test_the_manual_clock_moves_when_told():
    clock = ManualClock("2024-01-31")
    clock.advance("1mo")
    assert repr(clock) == "ManualClock('2024-02-29T00:00:00+00:00')"
    clock.set(datetime(2024, 1, 1, tzinfo=UTC))
    clock.advance(timedelta(hours=1))
    assert clock.now() == at("2024-01-01T01:00")
