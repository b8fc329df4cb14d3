"""The probability that a variant is better than the control."""

from __future__ import annotations

import math

from .sample import Proportion

__all__ = ["chance_by_beta", "chance_by_normal"]


_SHARES = (1e-13, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_SHARES = (*_SHARES, *(1 - share for share in reversed(_SHARES[:-1])))


def chance_by_beta(control: Proportion, other: Proportion) -> float:
    """That the other's rate is higher: Beta-Binomial, with the uniform prior Beta(1, 1) on both rates.

    Source: A. Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), 2.4; the probability is the integral of
    one posterior's density times the other's distribution function, by Gauss-Legendre quadrature.

    >>> round(chance_by_beta(Proportion(1000, 100), Proportion(1000, 130)), 3)
    0.982
    """
    import numpy
    from scipy.special import betainc, betaincinv, betaln, xlog1py, xlogy

    a = 1 + control.successes, 1 + control.n - control.successes
    b = 1 + other.successes, 1 + other.n - other.successes
    # Between the quantiles of both, so that wherever either bends there are points.
    shares = numpy.array(_SHARES)
    edges = numpy.concatenate((betaincinv(*b, shares), betaincinv(*a, shares)))
    low, high = betaincinv(*b, shares[[0, -1]])
    edges = numpy.unique(numpy.clip(edges, low, high))
    nodes, weights = numpy.polynomial.legendre.leggauss(20)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    x = edges[:-1, None] + half * (nodes + 1)
    density = numpy.exp(xlogy(b[0] - 1, x) + xlog1py(b[1] - 1, -x) - betaln(*b))
    found = float((half * weights * density * betainc(*a, x)).sum())
    return min(1.0, max(0.0, found))


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
