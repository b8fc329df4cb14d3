"""The statistics that results need, over Arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidValue
from .scan import Arm

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Contrast:
    p_value: float
    p_sequential: float
    lift: float | None
    lift_ci: tuple[float, float] | None
    chance_to_beat: float | None


def contrast(
    control: Arm, arm: Arm, *, proportion: bool, percentile: bool, decrease: bool
) -> Contrast | None:
    from scipy import stats

    if control.mean is None or arm.mean is None:
        return None
    if not proportion and not (control.error and arm.error):
        return None
    diff = arm.mean - control.mean
    if proportion:
        pooled = (arm.did + control.did) / (arm.n + control.n)
        variance = pooled * (1 - pooled) * (1 / arm.n + 1 / control.n)
        if not variance:
            return None
        p = two_sided(diff / math.sqrt(variance))
        chance = _beta(control, arm)
    else:
        errors = control.error or 0.0, arm.error or 0.0
        variance = sum(errors)
        t = diff / math.sqrt(variance)
        if percentile:
            p = two_sided(t)
        else:
            df = variance**2 / (errors[0] ** 2 / (control.n - 1) + errors[1] ** 2 / (arm.n - 1))
            p = 2 * float(stats.t.sf(abs(t), df))
        chance = float(stats.norm.cdf(t))
    n = control.n + arm.n
    rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 5000
    k = n * rho2
    exponent = diff * diff / variance * k / (2 * (k + 1))
    sequential = min(1.0, math.sqrt(k + 1) * math.exp(-exponent))
    found = lift(control, arm)
    return Contrast(
        p,
        sequential,
        None if found is None else found[0],
        None if found is None else (found[0] - Z95 * found[1], found[0] + Z95 * found[1]),
        1 - chance if decrease else chance,
    )


def lift(control: Arm, arm: Arm) -> tuple[float, float] | None:
    """The relative lift and its standard error, by the delta method."""
    if not control.mean or arm.mean is None or control.error is None or arm.error is None:
        return None
    ratio = arm.mean / control.mean
    error = math.sqrt(arm.error + ratio**2 * control.error) / abs(control.mean)
    return (arm.mean - control.mean) / abs(control.mean), error


def _beta(control: Arm, arm: Arm) -> float:
    from scipy import integrate, stats

    a = 1 + control.did, 1 + control.n - control.did
    b = 1 + arm.did, 1 + arm.n - arm.did
    low, high = stats.beta.ppf(1e-12, *b), stats.beta.isf(1e-12, *b)
    return float(
        integrate.quad(lambda x: stats.beta.pdf(x, *b) * stats.beta.cdf(x, *a), low, high, limit=200)[0]
    )


def two_sided(z: float) -> float:
    from scipy import stats

    return 2 * float(stats.norm.sf(abs(z)))


def holm(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    running = 0.0
    for rank, n in enumerate(order):
        running = max(running, min(1.0, (len(values) - rank) * values[n]))
        found[n] = running
    return found


def mismatch(observed: Sequence[int], weights: Sequence[float]) -> float | None:
    total = sum(observed)
    if not total:
        return None
    from scipy import stats

    scale = total / math.fsum(weights)
    return float(stats.chisquare(observed, [weight * scale for weight in weights]).pvalue)


def adjusted(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Arms with the part of their metric that was known before exposure taken out (CUPED)."""
    told = [a for a in arms.values() if a.x_variance is not None and a.covariance is not None and a.n > 1]
    spread = sum((a.n - 1) * (a.x_variance or 0) for a in told)
    if not spread:
        return dict(arms)
    theta = sum((a.n - 1) * (a.covariance or 0) for a in told) / spread
    mean = sum(a.n * (a.x_mean or 0) for a in told) / sum(a.n for a in told)
    found = dict(arms)
    for name, a in arms.items():
        if a not in told or a.mean is None or a.variance is None or a.x_mean is None:
            continue
        variance = max(0.0, a.variance - 2 * theta * (a.covariance or 0) + theta**2 * (a.x_variance or 0))
        found[name] = replace(
            a, mean=a.mean - theta * (a.x_mean - mean), variance=variance, error=variance / a.n
        )
    return found


def power(
    baseline: float, mde: float, alpha: float = 0.05, power: float = 0.8, relative: bool = False
) -> int:
    from scipy import stats

    for what, value in (("baseline", baseline), ("alpha", alpha), ("power", power)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise InvalidValue(f"{what}= is a number between 0 and 1, not {value!r}")
    if isinstance(mde, bool) or not isinstance(mde, (int, float)) or not math.isfinite(mde) or mde == 0:
        raise InvalidValue(f"mde= is a difference other than 0, not {mde!r}")
    other = baseline * (1 + mde) if relative else baseline + mde
    if not 0 < other < 1:
        raise InvalidValue(f"the baseline of {baseline} and mde={mde} lead to {other:g}, outside 0 to 1")
    mean = (baseline + other) / 2
    z = float(stats.norm.isf(alpha / 2)), float(stats.norm.isf(1 - power))
    root = z[0] * math.sqrt(2 * mean * (1 - mean)) + z[1] * math.sqrt(
        baseline * (1 - baseline) + other * (1 - other)
    )
    return math.ceil((root / (other - baseline)) ** 2)


def needed_for_means(control: float, arm: float, difference: float) -> int:
    from scipy import stats

    z = float(stats.norm.isf(0.025)) + float(stats.norm.isf(0.2))
    return max(2, math.ceil(z * z * (control + arm) / difference**2))
