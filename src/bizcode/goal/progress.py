"""Where a goal stands, and where it will be at its deadline."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine.levels import is_whole
from ..engine.relation import VALUE, Column
from ..errors import InvalidQuery
from ..plan.sql import Parameters
from ..query import AggregateQuery
from ..stats.line import LARGEST, Line
from .reach import Reach, cumulative, evaluate

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["DAY", "STATUSES", "GoalPoint", "Progress", "progress_at"]

DAY = 86_400_000_000
STATUSES = ("achieved", "on-track", "open", "at-risk", "off-track", "missed")
"""From best to worst."""
_SHORT = 0.1
_STEPS = 30
"""So many looks back at most: the spread of a sum's growth is that of steps of several days, where it is long."""

_POINTS = 400
"""A line through the values at days' ends is fitted to so many at most, evenly spread over all of them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A goal's standing. `percent` is 0 to 100; `projected` is the value expected at the deadline, `interval` its
    80 % prediction interval, `probability` that the target is met by then; None where there is no projection.
    A compound goal has `targets`, one Progress each, and no current and target of its own."""

    name: str
    current: Any
    target: float | None
    percent: float
    remaining: float | None
    days_left: int | None
    on_track: bool | None
    projected: float | None
    interval: tuple[float, float] | None
    probability: float | None
    status: str
    achieved: bool
    targets: list[Progress] | None = None


@dataclass(frozen=True, slots=True)
class GoalPoint:
    """A goal at the end of a day (today: now)."""

    date: date
    value: Any
    percent: float
    status: str


def progress_at(
    store: Store,
    name: str,
    targets: list[Reach],
    start: int,
    deadline: int | None,
    at: int | None,
    before: list[Any] | None = None,
) -> Progress:
    """A goal's standing at an instant (None: now). `start` is when it was defined, `before` where its targets stood
    then, as far as it was kept."""
    now = store.now() if at is None else at
    values = before or [None] * len(targets)
    made = [
        _one(store, name, target, start, deadline, now, at, value)
        for target, value in zip(targets, values, strict=True)
    ]
    if len(made) == 1:
        return made[0]
    worst = max((p.status for p in made), key=STATUSES.index)
    known = [p.on_track for p in made if p.on_track is not None]
    return Progress(
        name,
        None,
        None,
        sum(p.percent for p in made) / len(made),
        None,
        made[0].days_left,
        all(known) if known else None,
        None,
        None,
        None,
        worst,
        all(p.achieved for p in made),
        made,
    )


def _one(
    store: Store,
    name: str,
    target: Reach,
    start: int,
    deadline: int | None,
    now: int,
    at: int | None,
    before: Any,
) -> Progress:
    current = evaluate(target.query, at)
    achieved = target.met(current)
    days_left = None if deadline is None else _days(store, now, deadline)
    projected = interval = probability = on_track = None
    if deadline is not None:
        found = _project(store, target, start, deadline, now, current, at)
        if found is not None:
            projected, interval, probability = found
            on_track = achieved or target.met(projected)
    percent = _percent(target, current, start, before)
    if deadline is not None and on_track is None:
        # Too early for a projection: what is done is held against the time that has passed.
        passed = (now - start) / (deadline - start) if deadline > start else 1.0
        on_track = achieved or (now < deadline and percent >= 100 * passed)
    status = _status(target, achieved, projected, deadline, now, bool(on_track))
    return Progress(
        name,
        current,
        target.target,
        percent,
        _remaining(target, current),
        days_left,
        on_track,
        projected,
        interval,
        probability,
        status,
        achieved,
    )


def _days(store: Store, now: int, deadline: int) -> int:
    end = when.to_datetime(deadline - 1, store.tz).date()
    return (end - when.to_datetime(now, store.tz).date()).days


def _remaining(target: Reach, current: Any) -> float:
    value = current or 0
    if target.direction == "below":
        return 0 if current is None else max(0, value - target.target)
    return max(0, target.target - value)


def _percent(target: Reach, current: Any, start: int, before: Any) -> float:
    if current is None:
        return 0.0
    if target.met(current):
        return 100.0
    if target.direction == "above":
        share = current / target.target if target.target > 0 else 0.0
    else:
        try:
            before = evaluate(target.query, start) if before is None else before
        except InvalidQuery:  # its samples were deleted, and no rollup keeps the latest value
            before = None
        if before is None or before <= target.target:
            before = max(current, before or current)
        share = (before - current) / (before - target.target) if before > target.target else 0.0
    return min(100.0, max(0.0, share * 100))


def _status(
    target: Reach, achieved: bool, projected: float | None, deadline: int | None, now: int, on_track: bool
) -> str:
    if achieved:
        return "achieved"
    if deadline is None:
        return "open"
    if now >= deadline:
        return "missed"
    if projected is None:
        return "on-track" if on_track else "off-track"
    if target.met(projected):
        return "on-track"
    margin = abs(target.target) * _SHORT
    near = (
        projected >= target.target - margin
        if target.direction == "above"
        else projected <= target.target + margin
    )
    return "at-risk" if near else "off-track"


def _project(
    store: Store, target: Reach, start: int, deadline: int, now: int, current: Any, at: int | None
) -> tuple[float, tuple[float, float] | None, float | None] | None:
    """(value at the deadline, its 80 % interval, the probability of meeting the target); None where nothing can
    be told, as of numbers that leave the range of doubles."""
    if now >= deadline:
        return None if current is None else (float(current), None, None)
    if cumulative(target):
        return _along_rate(store, target, start, deadline, now, current)
    points = _points(store, target, start, now)
    line = Line.of([((t - start) / DAY, float(v)) for t, v in points])
    if points and not line.n:
        return None
    x = (deadline - start) / DAY
    if line.slope is None:
        return None if current is None or not points else (float(current), None, None)
    predicted = line.predict(x)
    if predicted is None:
        return line.y + line.slope * (x - line.x), None, None
    value, low, high = predicted
    above = line.above(x, target.target)
    probability = None if above is None else above if target.direction == "above" else 1 - above
    return value, (low, high), probability


def _along_rate(
    store: Store, target: Reach, start: int, deadline: int, now: int, current: Any
) -> tuple[float, tuple[float, float] | None, float | None] | None:
    """A sum that grows: at the rate since the goal's start. Its spread is that of the daily increments."""
    query: AggregateQuery = target.query
    begin = max(start, store.engine.range_start_at(query.plan.select.since, now) or start)
    elapsed = (now - begin) / DAY
    if elapsed <= 0:
        return None
    base = evaluate(query, begin - 1) or 0
    gained = (current or 0) - base
    left = (deadline - now) / DAY
    projected = float((current or 0) + gained / elapsed * left)
    if not math.isfinite(projected):
        return None
    whole = int(elapsed)
    if whole < 2:
        return projected, None, None
    steps, stride = _grown(store, query, begin, now, whole)
    left /= stride
    if len(steps) < 2 or not all(abs(step) <= LARGEST for step in steps):
        return projected, None, None
    mean = sum(steps) / len(steps)
    variance = sum((step - mean) ** 2 for step in steps) / (len(steps) - 1)
    spread = math.sqrt(left * variance + left * left * variance / len(steps))
    if spread == 0:
        met = target.met(projected)
        return projected, (projected, projected), 1.0 if met else 0.0
    from scipy.stats import t

    margin = float(t.ppf(0.9, len(steps) - 1)) * spread
    above = float(t.sf((target.target - projected) / spread, len(steps) - 1))
    probability = above if target.direction == "above" else 1 - above
    return projected, (projected - margin, projected + margin), probability


def _grown(store: Store, query: AggregateQuery, begin: int, now: int, whole: int) -> tuple[list[float], int]:
    """(how much it grew in each step, days in a step): by one question where numbers of days add up."""
    if query.plan.operation in ("count", "sum"):
        first = when.next_bucket(when.bucket(begin - 1, "day", store.tz), "day", store.tz)
        days = query.between(when.to_datetime(first), when.to_datetime(now)).by("day").run()
        whole_days = list(days.values())
        if when.bucket(now, "day", store.tz) != now or len(whole_days) > whole:
            whole_days = whole_days[:whole]
        return [float(value or 0) for value in whole_days], 1
    stride = -(-whole // _STEPS)
    values = [evaluate(query, begin + n * DAY - 1) or 0 for n in range(0, whole + 1, stride)]
    return [later - value for value, later in itertools.pairwise(values)], stride


def _points(store: Store, target: Reach, start: int, now: int) -> list[tuple[int, float]]:
    """The metric's history since the goal's start: its samples, or its value at the end of each day."""
    query = target.query
    if isinstance(query, AggregateQuery) and query.plan.operation == "current":
        select = query.plan.select
        with store.engine.session() as session:
            from dataclasses import replace

            bounded = replace(select, since=when.to_datetime(start), until=when.to_datetime(now + 1))
            if is_whole(session, bounded):
                parameters = Parameters()
                columns = {"moment": Column("timestamp"), "x": Column("number", VALUE)}
                relation = session.relation(bounded, columns, parameters)
                sql = f"SELECT epoch_us(moment), x FROM ({relation.sql}) ORDER BY 1 DESC LIMIT 100000"
                return [(t, v) for t, v in session.fetch(sql, parameters) if v is not None]
    points = []
    ends = _day_ends(store, start, now)
    stride = -(-len(ends) // _POINTS)
    for end in ends[::-stride][::-1]:
        try:
            value = evaluate(query, end)
        except InvalidQuery:  # its samples were deleted, and no rollup keeps the number
            continue
        if value is not None:
            points.append((end, float(value)))
    return points


def _day_ends(store: Store, start: int, now: int) -> list[int]:
    """The last microsecond of each day since the start; today's is now."""
    days = when.buckets(start, now + 1, "day", store.tz)
    return [min(now, when.next_bucket(day, "day", store.tz) - 1) for day in days]


def day_of(us: int, store: Store) -> date:
    """The calendar day of an instant in the business's timezone."""
    return when.to_datetime(us, store.tz).date()
