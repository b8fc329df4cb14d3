"""Sufficient statistics of samples. They add with `+`: of parts of the data, of days, of machines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Paired", "Proportion", "Sample"]


@dataclass(frozen=True, slots=True)
class Proportion:
    """`successes` among `n` trials.

    >>> Proportion(100, 12) + Proportion(50, 3)
    Proportion(n=150, successes=15)
    """

    n: int = 0
    successes: int = 0

    def __add__(self, other: Proportion) -> Proportion:
        return Proportion(self.n + other.n, self.successes + other.successes)

    @property
    def mean(self) -> float | None:
        """The rate; None of no trials."""
        return self.successes / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """Of one trial, as observed: p (1 - p); None of no trials."""
        p = self.mean
        return None if p is None else p * (1 - p)

    @property
    def error(self) -> float | None:
        """The squared standard error of the rate; None of no trials."""
        return None if self.variance is None else self.variance / self.n


@dataclass(frozen=True, slots=True)
class Sample:
    """`n` values with their mean and `m2`, the sum of the squared distances from it.

    Parts are added as in T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for Computing the Sample
    Variance", The American Statistician 37 (1983).

    >>> both = Sample.of([1, 2]) + Sample.of([3, 4])
    >>> both.mean, round(both.variance, 4)
    (2.5, 1.6667)
    """

    n: int = 0
    mean: float | None = None
    m2: float = 0.0

    @staticmethod
    def of(values: Iterable[float]) -> Sample:
        """The statistics of some values."""
        found = list(values)
        if not found:
            return Sample()
        mean = math.fsum(found) / len(found)
        return Sample(len(found), mean, math.fsum((value - mean) ** 2 for value in found))

    def __add__(self, other: Sample) -> Sample:
        if self.mean is None or other.mean is None:
            return other if self.mean is None else self
        n, distance = self.n + other.n, other.mean - self.mean
        return Sample(
            n,
            self.mean + distance * other.n / n,
            self.m2 + other.m2 + distance * distance * self.n * other.n / n,
        )

    @property
    def variance(self) -> float | None:
        """The sample's (n - 1); None below two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else None

    @property
    def error(self) -> float | None:
        """The squared standard error of the mean; None below two values."""
        return None if self.variance is None else self.variance / self.n


@dataclass(frozen=True, slots=True)
class Paired:
    """A metric `y` and what was known of it before, `x`, of the same users; `xy` is the sum of the products
    of their distances from their means.

    >>> pairs = Paired.of([(1, 1), (2, 3)]) + Paired.of([(3, 5)])
    >>> pairs.n, pairs.covariance
    (3, 2.0)
    """

    y: Sample = Sample()
    x: Sample = Sample()
    xy: float = 0.0

    @staticmethod
    def of(pairs: Iterable[tuple[float, float]]) -> Paired:
        """The statistics of some pairs (y, x)."""
        found = list(pairs)
        y, x = Sample.of(p[0] for p in found), Sample.of(p[1] for p in found)
        if y.mean is None or x.mean is None:
            return Paired()
        return Paired(y, x, math.fsum((b - y.mean) * (a - x.mean) for b, a in found))

    def __add__(self, other: Paired) -> Paired:
        if self.y.mean is None or self.x.mean is None:
            return other
        if other.y.mean is None or other.x.mean is None:
            return self
        weight = self.n * other.n / (self.n + other.n)
        cross = (other.y.mean - self.y.mean) * (other.x.mean - self.x.mean) * weight
        return Paired(self.y + other.y, self.x + other.x, self.xy + other.xy + cross)

    @property
    def n(self) -> int:
        return self.y.n

    @property
    def covariance(self) -> float | None:
        """The sample's (n - 1); None below two pairs."""
        return self.xy / (self.n - 1) if self.n > 1 else None
