"""The probability that a variant is better than the control."""

from __future__ import annotations

import math

from .sample import Proportion

__all__ = ["chance_by_beta", "chance_by_normal"]


def chance_by_beta(control: Proportion, other: Proportion) -> float:
    """That the other's rate is higher: Beta-Binomial, with the uniform prior Beta(1, 1) on both rates.

    Source: A. Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), 2.4; the probability is the integral of
    one posterior's density times the other's distribution function, by adaptive quadrature.

    >>> round(chance_by_beta(Proportion(1000, 100), Proportion(1000, 130)), 3)
    0.982
    """
    from scipy import integrate, stats

    a = 1 + control.successes, 1 + control.n - control.successes
    b = 1 + other.successes, 1 + other.n - other.successes
    low, high = stats.beta.ppf(1e-12, *b), stats.beta.isf(1e-12, *b)
    # The quadrature must know where the steep part is, or it steps over it.
    bends = [float(x) for x in stats.beta.ppf((1e-6, 0.5, 1 - 1e-6), *a) if low < x < high]
    found = integrate.quad(
        lambda x: stats.beta.pdf(x, *b) * stats.beta.cdf(x, *a), low, high, points=bends or None, limit=200
    )[0]
    return min(1.0, max(0.0, float(found)))


def chance_by_normal(difference: float, error: float) -> float:
    """That the difference is above 0: normal, with a flat prior.

    Source: A. Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), 2.5.

    Args:
        difference: of the two means.
        error: its squared standard error.

    >>> chance_by_normal(0.0, 1.0)
    0.5
    """
    from scipy.special import ndtr

    return float(ndtr(difference / math.sqrt(error)))
