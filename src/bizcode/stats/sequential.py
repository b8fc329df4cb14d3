"""A p-value that may be looked at as often as one likes."""

from __future__ import annotations

import math

__all__ = ["always_valid_p"]

TUNED_FOR = 5_000
"""The number of users at which the mixture is sharpest."""

ALPHA = 0.05


def always_valid_p(difference: float, error: float, n: int, tuned_for: int = TUNED_FOR) -> float:
    """An always-valid p-value of a difference of means: the chance that it is ever below 0.05, at any look,
    is below 0.05 where there is no difference.

    It is 1 over the mixture likelihood ratio of Robbins' mixture sequential probability ratio test, with
    a normal mixture of mean 0 over the true difference. Its variance is k = n * rho² times the error of
    the difference, with rho² chosen to make the boundary tightest at `tuned_for` users; the width grows slowly with being wrong about it: by less than a tenth at a quarter or at four times as
    many. 5,000 users in both variants together is the order at which small companies decide.

    Sources: R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Always Valid Inference", Operations Research 70
    (2022), equation 8; the choice of rho: S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021), section 3.5.

    Args:
        difference: of the two means.
        error: its squared standard error.
        n: users in both variants together.

    >>> always_valid_p(0.0, 0.01, 1000)
    1.0
    >>> round(always_valid_p(0.03, 0.000049, 5000), 5)
    0.00086
    """
    if n <= 0 or not error:
        return 1.0
    square = -2 * math.log(ALPHA)
    k = n * (square + math.log(square + 1)) / tuned_for
    return min(1.0, math.sqrt(k + 1) * math.exp(-difference * difference / error * k / (2 * (k + 1))))
