"""A straight line through points, and what it says of the future.

Ordinary least squares: N. R. Draper and H. Smith, Applied Regression Analysis, 3rd ed. (1998), chapters 1 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LARGEST", "Line"]

LARGEST = 1e140
"""Beyond it the squares of numbers, added up, leave the range of doubles: no line can be told."""


@dataclass(frozen=True, slots=True)
class Line:
    """Sufficient statistics of points (x, y) around a fixed origin; they add with `+`.

    >>> line = Line.of([(0, 1), (1, 3), (2, 5)])
    >>> line.slope, line.intercept, line.r2
    (2.0, 1.0, 1.0)
    """

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    @staticmethod
    def of(points: Iterable[tuple[float, float]]) -> Line:
        """The statistics of some points, x and y means and centred sums; of none where a y is beyond LARGEST."""
        found = list(points)
        n = len(found)
        if not n or not all(abs(y) <= LARGEST for _, y in found):
            return Line()
        mx = math.fsum(p[0] for p in found) / n
        my = math.fsum(p[1] for p in found) / n
        return Line(
            n,
            mx,
            my,
            math.fsum((p[0] - mx) ** 2 for p in found),
            math.fsum((p[0] - mx) * (p[1] - my) for p in found),
            math.fsum((p[1] - my) ** 2 for p in found),
        )

    def __add__(self, other: Line) -> Line:
        if not self.n or not other.n:
            return other if not self.n else self
        n = self.n + other.n
        dx, dy = other.x - self.x, other.y - self.y
        weight = self.n * other.n / n
        return Line(
            n,
            self.x + dx * other.n / n,
            self.y + dy * other.n / n,
            self.xx + other.xx + dx * dx * weight,
            self.xy + other.xy + dx * dy * weight,
            self.yy + other.yy + dy * dy * weight,
        )

    @property
    def slope(self) -> float | None:
        """y per x; None where all points have one x."""
        return self.xy / self.xx if self.n >= 2 and self.xx > 0 else None

    @property
    def intercept(self) -> float | None:
        slope = self.slope
        return None if slope is None else self.y - slope * self.x

    @property
    def r2(self) -> float | None:
        """The share of y's variance that the line explains; 0.0 where y is constant."""
        if self.slope is None:
            return None
        return 0.0 if self.yy == 0 else min(1.0, self.xy / self.xx * (self.xy / self.yy))

    def _residual(self) -> float:
        """The residual variance; 0 where rounding alone is left."""
        slope = self.slope or 0.0
        left = self.yy - slope * self.xy
        return 0.0 if left <= 1e-12 * max(self.yy, 1e-300) else left / (self.n - 2)

    def p_value(self) -> float | None:
        """Two-sided p-value of the slope against 0 (Student's t, n - 2 degrees); None for fewer than three points."""
        if self.slope is None or self.n < 3:
            return None
        if self.yy == 0:
            return 1.0
        variance = self._residual()
        if variance == 0:
            return 0.0
        from scipy.stats import t

        return float(2 * t.sf(abs(self.slope) / math.sqrt(variance / self.xx), self.n - 2))

    def predict(self, x: float, level: float = 0.8) -> tuple[float, float, float] | None:
        """(value, low, high) at x with the prediction interval of a new point; None for fewer than three points."""
        slope = self.slope
        if slope is None or self.n < 3:
            return None
        value = self.y + slope * (x - self.x)
        spread = self._spread(x)
        from scipy.stats import t

        margin = float(t.ppf(0.5 + level / 2, self.n - 2)) * spread
        return value, value - margin, value + margin

    def _spread(self, x: float) -> float:
        return math.sqrt(self._residual() * (1 + 1 / self.n + (x - self.x) ** 2 / self.xx))

    def above(self, x: float, target: float) -> float | None:
        """The probability that a new point at x reaches a target."""
        slope = self.slope
        if slope is None or self.n < 3:
            return None
        value, spread = self.y + slope * (x - self.x), self._spread(x)
        if spread == 0:
            return 1.0 if value >= target else 0.0
        from scipy.stats import t

        return float(t.sf((target - value) / spread, self.n - 2))
