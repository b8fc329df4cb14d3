"""Anomalies against a naive decomposition written out here."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from statistics import fmean, median

import numpy as np
import pytest

from bizcode import Business, InvalidQuery, ManualClock

NOW = datetime(2024, 6, 30, tzinfo=UTC)


def naive(values, period):
    """Indices of what stands out: the median of slopes a season apart, medians by phase, a running median, and
    3.5 times 1.4826 the median absolute deviation."""
    n = len(values)
    present = [i for i in range(n) if values[i] is not None]
    lag = period if len(present) >= 3 * period else 1
    slopes = [(values[i + lag] - values[i]) / lag for i in present if i + lag in set(present)]
    slope = median(slopes) if slopes else 0
    detrended = {i: values[i] - slope * i for i in present}
    everything = median(detrended.values())
    phases = {}
    for phase in range(lag):
        mine = [detrended[i] for i in present if i % lag == phase]
        phases[phase] = median(mine) if mine else everything
    left = {i: detrended[i] - phases[i % lag] for i in present}
    half = max(7, lag)
    residual = {}
    for i in present:
        near = [left[j] for j in present if abs(i - j) <= half]
        residual[i] = left[i] - median(near)
    centre = median(residual.values())
    spread = 1.4826 * median(abs(r - centre) for r in residual.values())
    if spread == 0:
        spread = 1.2533 * fmean(abs(r - centre) for r in residual.values())
    return {i for i in present if abs(residual[i]) > 3.5 * spread}


@pytest.mark.parametrize("seed", range(12))
def test_random_series_with_gaps_seasons_and_spikes(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 90))
    values = [
        None
        if rng.random() < 0.1
        else float(
            100
            + rng.choice([0, 0.7]) * i
            + [0, 20][seed % 2] * math.sin(2 * math.pi * i / 7)
            + rng.normal(0, 3)
            + (60 if rng.random() < 0.05 else 0)
        )
        for i in range(n)
    ]
    values[0] = values[-1] = 100.0
    first = NOW - timedelta(days=n - 1)
    with Business(":memory:", clock=ManualClock(NOW), worker=False) as biz:
        for i, value in enumerate(values):
            if value is not None:
                biz.measure.x(value, {}, at=first + timedelta(days=i))
        found = biz.measure.x.anomalies().run()
    assert {(a.time - first).days for a in found} == naive(values, 7)
    for a in found:
        assert not a.low <= a.value <= a.high
        assert a.low < a.expected < a.high


def test_a_spike_is_found_by_the_hour(biz, clock):
    for hour in range(72):
        value = 500 if hour == 40 else 10 + hour % 24
        biz.measure.x(value, {}, at=(clock.now() - hour * 3_600_000_000) / 1e6)
    found = biz.measure.x.anomalies().by("hour").run()
    assert [a.value for a in found] == [500]


def test_a_counter_is_judged_by_its_increments(biz, clock):
    for day in range(30):
        for _ in range(50 if day == 3 else 2):
            biz.measure.hits.increment(1, {}, at=(clock.now() - day * 86_400_000_000) / 1e6)
    assert [a.value for a in biz.measure.hits.anomalies().run()] == [50]


def test_a_first_day_that_is_cut_is_not_judged(biz, clock):
    for day in range(30):
        for hour in range(0, 24, 6):
            at = clock.now() - day * 86_400_000_000 - hour * 3_600_000_000
            biz.measure.hits.increment(10, {}, at=at / 1e6)
    assert all(a.time.hour == 0 for a in biz.measure.hits.anomalies().since("20d").run())
    days = [time for time, _, _ in biz.measure.hits.anomalies().since("20d")._bands()]
    assert len(days) == 20


def test_they_come_from_rollups_too(biz, clock):
    for day in range(40):
        biz.measure.x(500 if day == 20 else day % 7, {}, at=(clock.now() - day * 86_400_000_000) / 1e6)
    before = biz.measure.x.anomalies().since("35d").run()
    biz.measure.x.rollup(granularity=["hour", "day"], retention={"raw": "2d"})
    biz.drain()
    assert biz.measure.x.anomalies().since("35d").run() == before
    assert [a.value for a in before] == [500]


def test_an_unknown_unit_is_refused(biz):
    with pytest.raises(InvalidQuery):
        biz.measure.x.anomalies().by("fortnight")
    assert biz.measure.x.anomalies().run() == []
