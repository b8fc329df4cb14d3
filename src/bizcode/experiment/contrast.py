"""One variant beside the control: which of the statistics a goal calls for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..stats.bayes import chance_by_beta, chance_by_normal
from ..stats.compare import two_proportion_z, two_sided, welch
from ..stats.cuped import adjusted
from ..stats.intervals import quantile, relative
from ..stats.sample import Paired, Proportion, Sample
from ..stats.sequential import always_valid_p
from .scan import Arm

__all__ = ["Contrast", "contrast", "with_cuped"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """A variant against the control. The p-values are not corrected for being several."""

    p_value: float
    p_sequential: float
    lift: float | None
    lift_ci: tuple[float, float] | None
    chance_to_beat: float


def contrast(
    control: Arm, arm: Arm, *, proportion: bool, percentile: bool, decrease: bool
) -> Contrast | None:
    """How a variant differs from the control; None where the data can't tell.

    Args:
        proportion: the users either met the goal or not: the z test; else Welch's t test.
        percentile: the means are percentiles, normal with the errors given.
        decrease: less is better.
    """
    if control.mean is None or arm.mean is None:
        return None
    difference = arm.mean - control.mean
    if proportion:
        rates = Proportion(control.n, control.did), Proportion(arm.n, arm.did)
        p_value = two_proportion_z(*rates)
        if p_value is None:
            return None
        pooled = (arm.did + control.did) / (arm.n + control.n)
        error = pooled * (1 - pooled) * (1 / arm.n + 1 / control.n)
        chance = chance_by_beta(*rates)
    else:
        if not control.error or not arm.error:
            return None
        error = control.error + arm.error
        chance = chance_by_normal(difference, error)
        p_value = two_sided(difference / error**0.5) if percentile else welch(sample(control), sample(arm))
        if p_value is None:
            return None
    found = relative(control.mean, control.error, arm.mean, arm.error)
    half = 0.0 if found is None else quantile(0.95) * found[1]
    return Contrast(
        p_value,
        always_valid_p(difference, error, control.n + arm.n),
        None if found is None else found[0],
        None if found is None else (found[0] - half, found[0] + half),
        1 - chance if decrease else chance,
    )


def sample(arm: Arm) -> Sample:
    """An Arm's values as statistics that add."""
    return Sample(arm.n, arm.mean, (arm.variance or 0.0) * (arm.n - 1))


def with_cuped(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Arms with the part of their metric that was known before exposure taken out."""
    pairs = {
        name: Paired(
            sample(arm), Sample(arm.n, arm.x_mean, arm.x_variance * (arm.n - 1)), arm.covariance * (arm.n - 1)
        )
        for name, arm in arms.items()
        if arm.x_variance is not None and arm.covariance is not None and arm.n > 1
    }
    found = dict(arms)
    for name, less in adjusted(pairs).items():
        found[name] = replace(arms[name], mean=less.mean, variance=less.variance, error=less.error)
    return found
