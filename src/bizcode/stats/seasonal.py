"""Which values of a series stand out from its trend and season.

Robust decomposition: the median slope between values a season apart, medians by phase as season, a running
median as level, and what is left judged by the modified z-score, B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers (1993): beyond 3.5 median
absolute deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

__all__ = ["Band", "bands"]

BEYOND = 3.5
_MAD = 1.4826
_MEAN = 1.2533


@dataclass(frozen=True, slots=True)
class Band:
    """What was to be expected of one value, and the limits beyond which it stands out."""

    expected: float
    low: float
    high: float


def bands(values: Sequence[float | None], period: int) -> list[Band]:
    """The band of each value of an evenly spaced series; None stands for a gap.

    Args:
        values: in order of time.
        period: how many values make a season; 1 for none. A season needs three whole periods.
    """
    known = [value for value in values if value is not None]
    if not known:
        return [Band(0.0, 0.0, 0.0) for _ in values]
    season_length = period if period > 1 and len(known) >= 3 * period else 1
    slope = _slope(values, season_length)
    flat = [None if v is None else v - slope * n for n, v in enumerate(values)]
    season = []
    for phase in range(season_length):
        found = [v for v in flat[phase::season_length] if v is not None]
        season.append(median(found) if found else median(v for v in flat if v is not None))
    rest = [None if v is None else v - season[n % season_length] for n, v in enumerate(flat)]
    level = _running(rest, max(7, season_length))
    expected = [slope * n + season[n % season_length] + level[n] for n in range(len(values))]
    left = [v - e for v, e in zip(values, expected, strict=True) if v is not None]
    centre = median(left)
    spread = _MAD * median(abs(v - centre) for v in left)
    if spread == 0:
        spread = _MEAN * fmean(abs(v - centre) for v in left)
    margin = BEYOND * spread
    return [Band(e, e - margin, e + margin) for e in expected]


def _slope(values: Sequence[float | None], lag: int) -> float:
    """The median slope between values a season apart (Theil and Sen's, which a season doesn't bend)."""
    steps = [
        (later - value) / lag
        for value, later in zip(values, values[lag:], strict=False)
        if value is not None and later is not None
    ]
    return median(steps) if steps else 0.0


def _running(values: Sequence[float | None], half: int) -> list[float]:
    """The median of the values up to `half` before and after each."""
    found = []
    for n in range(len(values)):
        window = [v for v in values[max(0, n - half) : n + half + 1] if v is not None]
        found.append(median(window) if window else 0.0)
    return found
