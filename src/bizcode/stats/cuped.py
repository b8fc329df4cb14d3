"""Less variance, by what was known before."""

from __future__ import annotations

from collections.abc import Mapping

from .sample import Paired, Sample

__all__ = ["adjusted"]


def adjusted(arms: Mapping[str, Paired]) -> dict[str, Sample]:
    """Each variant's metric without the part that was known before exposure: y - theta (x - mean of all x),
    with one theta, the pooled within-variant covariance of y and x by the variance of x. The variance falls
    by the square of their correlation.

    Source: A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the Sensitivity of Online Controlled Experiments
    by Utilizing Pre-Experiment Data", WSDM 2013.

    >>> pairs = {"a": Paired.of([(1, 1), (2, 2), (3, 3)]), "b": Paired.of([(2, 1), (3, 2), (4, 3)])}
    >>> {name: (s.mean, s.variance) for name, s in adjusted(pairs).items()}
    {'a': (2.0, 0.0), 'b': (3.0, 0.0)}
    """
    told = [arm for arm in arms.values() if arm.n > 1]
    spread = sum(arm.x.m2 for arm in told)
    if not spread:
        return {name: arm.y for name, arm in arms.items()}
    theta = sum(arm.xy for arm in told) / spread
    centre = sum(arm.n * (arm.x.mean or 0.0) for arm in told) / sum(arm.n for arm in told)
    found = {}
    for name, arm in arms.items():
        if arm.y.mean is None or arm.x.mean is None:
            found[name] = arm.y
            continue
        m2 = max(0.0, arm.y.m2 - 2 * theta * arm.xy + theta * theta * arm.x.m2)
        found[name] = Sample(arm.n, arm.y.mean - theta * (arm.x.mean - centre), m2)
    return found
