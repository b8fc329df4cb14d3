"""Is the difference of two samples an accident? Fixed-look tests, two-sided."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .sample import Proportion, Sample

__all__ = ["holm", "mismatch", "two_proportion_z", "two_sided", "welch"]


def two_sided(z: float) -> float:
    """The two-sided p-value of a standard normal statistic.

    >>> round(two_sided(1.96), 4)
    0.05
    """
    from scipy.special import ndtr

    return 2 * float(ndtr(-abs(z)))


def two_proportion_z(control: Proportion, other: Proportion) -> float | None:
    """The p-value of the two-proportion z test with the pooled variance; None where it can't be told
    (an empty sample, or none or all succeeded in both).

    Source: J. L. Fleiss, B. Levin, M. C. Paik, Statistical Methods for Rates and Proportions, 3rd ed. (2003), 3.1.

    >>> round(two_proportion_z(Proportion(1000, 100), Proportion(1000, 130)), 4)
    0.0355
    """
    if control.mean is None or other.mean is None:
        return None
    pooled = (control.successes + other.successes) / (control.n + other.n)
    variance = pooled * (1 - pooled) * (1 / control.n + 1 / other.n)
    return two_sided((other.mean - control.mean) / math.sqrt(variance)) if variance else None


def welch(control: Sample, other: Sample) -> float | None:
    """The p-value of Welch's t test; None where it can't be told (below two values, or both constant).

    Source: B. L. Welch, "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34 (1947).

    >>> round(welch(Sample.of([1, 2, 3, 4]), Sample.of([2, 4, 6, 9])), 4)
    0.1647
    """
    if control.mean is None or other.mean is None or control.error is None or other.error is None:
        return None
    variance = control.error + other.error
    if not variance:
        return None
    from scipy.special import stdtr

    freedom = variance**2 / (control.error**2 / (control.n - 1) + other.error**2 / (other.n - 1))
    return 2 * float(stdtr(freedom, -abs(other.mean - control.mean) / math.sqrt(variance)))


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for being several, in their order.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    found, running = [0.0] * len(values), 0.0
    for rank, n in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        running = max(running, min(1.0, (len(values) - rank) * values[n]))
        found[n] = running
    return found


def mismatch(observed: Sequence[int], weights: Sequence[float]) -> float | None:
    """The p-value of a sample-ratio mismatch: Pearson's chi-square of the users of each variant against the
    weights; None without users.

    Source: A. Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.

    >>> mismatch([5000, 5300], [0.5, 0.5]) < 0.01
    True
    """
    total, weight = sum(observed), math.fsum(weights)
    if not total:
        return None
    from scipy.special import chdtrc

    statistic = math.fsum(
        (seen - total * w / weight) ** 2 / (total * w / weight)
        for seen, w in zip(observed, weights, strict=True)
    )
    return float(chdtrc(len(observed) - 1, statistic))
