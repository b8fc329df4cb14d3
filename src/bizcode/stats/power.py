"""How many users an experiment needs."""

from __future__ import annotations

import math

from ..errors import InvalidValue

__all__ = ["users_between_rates", "users_for_means", "users_for_rates"]


def users_for_rates(
    baseline: float, mde: float, alpha: float = 0.05, power: float = 0.8, relative: bool = False
) -> int:
    """Users per variant that show a difference of two rates, two-sided: the normal approximation with the
    pooled variance under the null.

    Source: J. L. Fleiss, B. Levin, M. C. Paik, Statistical Methods for Rates and Proportions, 3rd ed. (2003),
    equation 4.14 without the continuity correction.

    Args:
        baseline: the control's rate, between 0 and 1.
        mde: the smallest difference worth finding; relative to the baseline if `relative`.
        alpha: how often a difference is seen where there is none.
        power: how often one of that size is found.
    Raises:
        InvalidValue: a number outside its range.

    >>> users_for_rates(0.1, 0.02)
    3841
    """
    for what, value in (("baseline", baseline), ("alpha", alpha), ("power", power)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise InvalidValue(f"{what}= is a number between 0 and 1, not {value!r}")
    if isinstance(mde, bool) or not isinstance(mde, (int, float)) or not math.isfinite(mde) or mde == 0:
        raise InvalidValue(f"mde= is a difference other than 0, not {mde!r}")
    other = baseline * (1 + mde) if relative else baseline + mde
    if not 0 < other < 1:
        raise InvalidValue(f"the baseline of {baseline} and mde={mde} lead to {other:g}, outside 0 to 1")
    return users_between_rates(baseline, other, alpha, power)


def users_between_rates(control: float, other: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Users per variant that tell two rates apart, as `users_for_rates`. Either may be 0 or 1, as rates that
    were observed are; they must differ.

    >>> users_between_rates(0.1, 0.12), users_between_rates(0.5, 1.0)
    (3841, 11)
    """
    mean = (control + other) / 2
    null, alternative = _normal(1 - alpha / 2), _normal(power)
    root = null * math.sqrt(2 * mean * (1 - mean)) + alternative * math.sqrt(
        control * (1 - control) + other * (1 - other)
    )
    return math.ceil((root / (other - control)) ** 2)


def users_for_means(control: float, other: float, difference: float) -> int:
    """Users per variant that show a difference of two means with a power of 80 % at 5 %, two-sided.

    Source: G. van Belle, Statistical Rules of Thumb, 2nd ed. (2008), 2.1, with two variances.

    Args:
        control, other: the variances of the users' values.
        difference: of the means, not 0.

    >>> users_for_means(1.0, 1.0, 0.5)
    63
    """
    z = _normal(0.975) + _normal(0.8)
    return max(2, math.ceil(z * z * (control + other) / difference**2))


def _normal(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))
