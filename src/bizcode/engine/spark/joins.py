"""Pairs of two keyed streams within a bound of time, kept and found by Spark.

A pair is told by its two rows alone, so that it doesn't matter which came in which batch: equal keys, times near each
other, and each row still of use by the watermark that the other one met. So a left row is given up, and given out if it
had no partner, exactly when the watermark has passed it. A right row is kept for the bound longer than it is of use:
Spark takes one column of each side for all that it derives from the watermark.

Spark compares a row with all of its key that it has, of this batch too. So stretches of time are part of the key: a left
row has one, a right row those that its partners may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .axis import FINE, Reach, fine_sql
from .feed import Shape

__all__ = ["Pairs"]

_EVER = 9 * 10**18


@dataclass(frozen=True, slots=True)
class Pairs:
    """The query.

    Args:
        keys: how many parts the key has.
        within: how far the times of a pair may lie apart, in microseconds.
        lateness: how much longer a row is of use.
        left: whether left rows without a partner are given, too.
    """

    keys: int
    within: int
    lateness: int
    left: bool

    @property
    def reach(self) -> Reach:
        return Reach(self.within + self.lateness)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return Shape(self.keys, ()), Shape(self.keys, ())

    def frame(self, left: Any, right: Any) -> Any:
        """Position and time of both, and the key as text; of a left row alone the right ones are null."""
        from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

        reach, stretch = self.within + self.lateness, 4 * self.within
        one = self._side(left, "l", _stretch("t", stretch), f"{fine_sql(f't + {reach}')} + {2 * FINE // 3}")
        # What every left partner of it lies at or behind, and no row that is to come lies before the watermark by.
        least = f"greatest({fine_sql(f'greatest(m, t + {self.lateness})')}, unix_micros(mark))"
        first, last = (_stretch(f"t {sign} {self.within}", stretch) for sign in "-+")
        other = self._side(right, "r", f"explode(sequence({first}, {last}))", f"{least} + {FINE // 3}")
        longer = min(_EVER, 2 * FINE * self.within + 10_000)
        near = f"greatest(abs(lt - rt) - {self.within}, rm - lt - {reach}, lm - rt - {reach}) <= 0"
        bounds = f"re < le AND le - {_interval(longer)} < re"
        how = "left_outer" if self.left else "inner"
        joined = one.join(other, F.expr(f"lk = rk AND ls = rs AND {bounds} AND {near}"), how)
        return joined.select("lp", "lt", "rp", "rt", F.col("lk").alias("key"))

    def _side(self, source: Any, side: str, stretch: str, end: str) -> Any:
        from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

        parts = [f"coalesce(k{n}, 'null')" for n in range(self.keys)]
        several = ", ',', ".join(parts)
        key = parts[0] if len(parts) == 1 else f"concat('[', {several}, ']')"
        # As Spark itself marks the end of its own windows.
        ends = F.expr(f"timestamp_micros({end})").alias(f"{side}e", metadata={"spark.watermarkDelayMs": 0})
        # Counted from the mark, so that the condition can't be asked before the watermark has seen it.
        in_time = f"unix_micros(mark) - {self.reach.axis(0)} + e > m"
        columns = [F.col(name).alias(f"{side}{name}") for name in "ptm"]
        stretches = F.expr(stretch).alias(f"{side}s")
        return source.where(in_time).select(F.expr(key).alias(f"{side}k"), stretches, ends, *columns)


def _stretch(us: str, size: int) -> str:
    """The number of the stretch of time that an instant lies in."""
    return f"(({us}) - pmod({us}, {size})) div {size}"


def _interval(us: int) -> str:
    """Microseconds as whole seconds in Spark's SQL, no less."""
    days, seconds = divmod(-(-us // 1_000_000), 86_400)  # of seconds it takes no more than twelve digits
    return f"make_dt_interval({days}, 0, 0, CAST({seconds} AS DECIMAL(18, 6)))"
