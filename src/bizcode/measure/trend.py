"""Where a metric is going, and which of its values stand out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine.aggregate import aggregate
from ..engine.levels import require_raw
from ..engine.relation import VALUE, Column
from ..errors import InvalidQuery
from ..plan.select import Aggregate, Dimension, Select
from ..plan.sql import Parameters
from ..query.base import Query
from ..query.selection import Selection
from ..stats.line import Line
from ..stats.seasonal import Band, bands

if TYPE_CHECKING:
    from ..engine import Engine

__all__ = ["AnomaliesQuery", "Anomaly", "Trend", "TrendQuery"]

DAY = 86_400_000_000
_PERIODS = {"minute": 60, "hour": 24, "day": 7, "week": 52, "month": 12, "quarter": 4, "year": 1}


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` is per day; `direction` is "flat" where the slope is not significant (p >= 0.05) or the values
    are constant. None where there are too few samples to tell."""

    slope: float | None
    direction: str
    r2: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class TrendQuery(Selection, Query[Trend]):
    """The line of least squares through the samples."""

    engine: Engine
    select: Select

    @property
    def title(self) -> str:
        return "trend"

    def _engine(self) -> Engine:
        return self.engine

    def _outline(self) -> Any:
        from ..query.charts import Banded
        from ..query.plot import Outline

        with self.engine.asking() as session:
            line = self._line(session)
            found: dict[Any, Any] = {}
            for unit in ("day", "hour", "minute"):  # the coarsest that shows a course
                by = (Dimension("bucket", unit),)
                found = aggregate(session, Aggregate(select=self.select, operation="avg", by=by))
                if len(found) > 2:
                    break
            now = session.now
        banded = []
        for time, value in found.items():
            band = line.predict((int(time.timestamp() * 1_000_000) - now) / DAY, 0.95)
            if band is not None:
                banded.append(Banded(time, value, band[1], band[2], False))
        return Outline(banded, "shaded: where 95 % of samples lie around the line")

    def run(self) -> Trend:
        with self.engine.asking() as session:
            line = self._line(session)
        p_value = line.p_value()
        direction = "flat"
        if line.slope and p_value is not None and p_value < 0.05:
            direction = "up" if line.slope > 0 else "down"
        return Trend(line.slope, direction, line.r2, p_value)

    def _line(self, session: Any) -> Line:
        """The line through the samples; x in days from now."""
        require_raw(session, self.select, "trend()")
        parameters = Parameters()
        columns = {"moment": Column("timestamp"), "x": Column("number", VALUE)}
        relation = session.relation(self.select, columns, parameters)
        days = f"((epoch_us(moment) - {session.now}) / {DAY}.0)"
        value = "CAST(x AS DOUBLE)"
        sql = (
            f"SELECT count(*), avg({days}), avg({value}), regr_sxx({value}, {days}), "
            f"regr_sxy({value}, {days}), regr_syy({value}, {days}) FROM ({relation.sql})"
        )
        row = [value or 0.0 for value in session.fetch(sql, parameters)[0]]
        # Of numbers whose squares leave the range of doubles no line can be told.
        return Line(int(row[0]), *row[1:]) if all(map(isfinite, row)) else Line()


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A value outside its seasonal band [low, high]; `time` is the start of its bucket."""

    time: datetime
    value: float
    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class AnomaliesQuery(Selection, Query[list[Anomaly]]):
    """The buckets whose value stands out from the metric's trend and season."""

    engine: Engine
    select: Select
    operation: str = "avg"
    unit: str = "day"

    @property
    def title(self) -> str:
        return "anomalies"

    def _engine(self) -> Engine:
        return self.engine

    def by(self, unit: str) -> AnomaliesQuery:
        """Look at buckets of this size; default "day"."""
        if unit not in _PERIODS:
            raise InvalidQuery(f"anomalies are looked for by {', '.join(_PERIODS)}, not by {unit!r}")
        return replace(self, unit=unit)

    def _outline(self) -> Any:
        from ..query.charts import Banded
        from ..query.plot import Outline

        return Outline(
            [
                Banded(time, value, band.low, band.high, _stands_out(value, band))
                for time, value, band in self._bands()
            ],
            "shaded: what was to be expected",
        )

    def run(self) -> list[Anomaly]:
        return [
            Anomaly(time, value, band.expected, band.low, band.high)
            for time, value, band in self._bands()
            if _stands_out(value, band)
        ]

    def _bands(self) -> list[tuple[Any, Any, Band]]:
        by = (Dimension("bucket", self.unit),)
        with self.engine.asking() as session:
            low, high = session.range(self.select).bounds
            select = self.select
            if low is not None:
                # A first bucket of which only a part is in the range says nothing.
                start = when.bucket(low, self.unit, session.tz)
                whole = start if start == low else when.next_bucket(start, self.unit, session.tz)
                if high is not None and whole >= high:
                    return []
                until = None if high is None else when.to_datetime(high)
                select = replace(select, since=when.to_datetime(whole), until=until)
            found: dict[Any, Any] = aggregate(
                session, Aggregate(select=select, operation=self.operation, by=by)
            )
        values = list(found.values())
        limits = bands(values, _PERIODS[self.unit])
        return [(time, value, band) for (time, value), band in zip(found.items(), limits, strict=True)]


def _stands_out(value: float | None, band: Band) -> bool:
    return value is not None and not band.low <= value <= band.high
