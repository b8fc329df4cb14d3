"""Confidence intervals of rates, their difference and the relative lift."""

from __future__ import annotations

import math

from .sample import Proportion, Sample

__all__ = ["lift", "lift_interval", "newcombe", "quantile", "wilson"]


def quantile(level: float) -> float:
    """How many standard errors an interval of that level reaches to each side.

    >>> round(quantile(0.95), 6)
    1.959964
    """
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def wilson(sample: Proportion, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of a rate; None of no trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    >>> [round(end, 4) for end in wilson(Proportion(10, 1))]
    [0.0179, 0.4042]
    """
    if not sample.n:
        return None
    z, n, p = quantile(level), sample.n, sample.successes / sample.n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def newcombe(control: Proportion, other: Proportion, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of the difference of two rates, by the score method without continuity correction; None
    of no trials.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions",
    Statistics in Medicine 17 (1998), method 10.

    >>> [round(end, 4) for end in newcombe(Proportion(80, 48), Proportion(70, 56))]
    [0.0524, 0.3339]
    """
    before, after = wilson(control, level), wilson(other, level)
    if before is None or after is None or control.mean is None or other.mean is None:
        return None
    difference = other.mean - control.mean
    low = math.sqrt((other.mean - after[0]) ** 2 + (before[1] - control.mean) ** 2)
    high = math.sqrt((after[1] - other.mean) ** 2 + (control.mean - before[0]) ** 2)
    return difference - low, difference + high


def lift(control: Proportion | Sample, other: Proportion | Sample) -> tuple[float, float] | None:
    """The relative difference of two means, 0.2 for a fifth more, and its standard error by the delta method
    for a ratio of independent means; None where the control's mean is 0 or a sample too small.

    Source: A. Deng, U. Knoblich, J. Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 2.

    >>> found = lift(Proportion(1000, 100), Proportion(1000, 130))
    >>> round(found[0], 4), round(found[1], 4)
    (0.3, 0.1628)
    """
    return relative(control.mean, control.error, other.mean, other.error)


def relative(
    control: float | None, control_error: float | None, other: float | None, other_error: float | None
) -> tuple[float, float] | None:
    """`lift` of two estimates with their squared standard errors."""
    if not control or other is None or control_error is None or other_error is None:
        return None
    ratio = other / control
    error = math.sqrt(other_error + ratio * ratio * control_error) / abs(control)
    return (other - control) / abs(control), error


def lift_interval(
    control: Proportion | Sample, other: Proportion | Sample, level: float = 0.95
) -> tuple[float, float] | None:
    """The interval of the relative lift; None as for `lift`."""
    found = lift(control, other)
    if found is None:
        return None
    half = quantile(level) * found[1]
    return found[0] - half, found[0] + half
