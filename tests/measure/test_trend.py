"""Trends against scipy's linregress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from bizcode import Business, ManualClock
from bizcode.measure.trend import Trend

NOW = datetime(2024, 6, 30, tzinfo=UTC)


def trend(points):
    with Business(":memory:", clock=ManualClock(NOW), worker=False) as biz:
        for n, (days, value) in enumerate(points):
            biz.measure.x(value, {}, at=NOW - timedelta(days=days))
            if n == len(points) // 2:
                biz.store.segments.seal()
        return biz.measure.x.trend().run()


@pytest.mark.parametrize("seed", range(10))
def test_random_data_as_linregress(seed):
    rng = np.random.default_rng(seed)
    days = np.round(rng.uniform(0, 180, rng.integers(3, 60)), 6)
    values = [1e-3, 1, 1e6][seed % 3] * (rng.normal(0, 1, len(days)) - rng.choice([0, 0.05]) * days)
    found = trend(list(zip(days.tolist(), values.tolist(), strict=True)))
    expected = stats.linregress(-days, values)
    assert found.slope == pytest.approx(expected.slope, rel=1e-6)
    assert found.r2 == pytest.approx(expected.rvalue**2, rel=1e-6)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-4, abs=1e-12)
    way = "flat" if expected.pvalue >= 0.05 else "up" if expected.slope > 0 else "down"
    assert found.direction == way


def test_a_straight_line():
    found = trend([(n, 100 - 2 * n) for n in range(10)])
    assert (found.slope, found.direction, found.r2) == (pytest.approx(2), "up", pytest.approx(1))


@pytest.mark.parametrize("points", [[], [(1, 5)], [(1, 5), (1, 6)]])
def test_too_few_samples_tell_nothing(points):
    found = trend(points)
    assert (found.slope, found.direction, found.p_value) == (None, "flat", None)


def test_constant_values_are_flat():
    assert trend([(n, 7) for n in range(20)]).direction == "flat"


def test_only_the_samples_of_the_range(biz, clock):
    for n in range(20):
        biz.measure.x(n if n < 10 else -n, {}, at=(clock.now() - (20 - n) * 86_400_000_000) / 1e6)
    assert biz.measure.x.trend().until("2024-02-29T12:00").run().direction == "up"
    assert biz.measure.x.trend().since("9d").run().direction == "down"


@pytest.mark.parametrize("until", ["2024-03-08T10:30", "2024-03-01", "2024-02-20", "2020-01-01"])
def test_the_latest_before_an_instant_whatever_the_files_hold(biz, clock, until):
    """Files whose samples reach beyond the range on either side."""
    for n in range(12):
        for k in range(3):
            at = clock.now() - (n + k * 5) * 86_400_000_000
            biz.measure.x(n * 10 + k, {}, at=at / 1e6)
        biz.store.segments.seal()
    rows = [
        r
        for r in biz.measure.x.events().run()
        if r.timestamp < datetime.fromisoformat(until).replace(tzinfo=UTC)
    ]
    newest = max(rows, key=lambda r: (r.timestamp, r.position), default=None)
    oldest = min(rows, key=lambda r: (r.timestamp, r.position), default=None)
    assert biz.measure.x.last().until(until).run() == (newest and newest.value)
    assert biz.measure.x.first().until(until).run() == (oldest and oldest.value)
    later = [r for r in biz.measure.x.events().run() if r not in rows]
    first = min(later, key=lambda r: (r.timestamp, r.position))
    assert biz.measure.x.first().since(until).run() == first.value


def test_numbers_whose_squares_leave_the_range_of_doubles_have_no_line(biz, clock):
    for n in range(5):
        biz.measure.x(1e200 * n)
        clock.advance("1d")
    assert biz.measure.x.trend().run() == Trend(None, "flat", None, None)
