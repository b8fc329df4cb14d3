"""Which chart fits a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ..errors import InvalidQuery
from ..record import Row
from . import charts
from .picture import Picture, altair
from .present import is_cohorts, is_funnel, to_table
from .text import text

__all__ = ["Outline", "plot"]


MOST_NAME = 22


@dataclass(frozen=True, slots=True)
class Outline:
    """What a query draws in place of its answer: a series in its band, and what the band means."""

    banded: Sequence[charts.Banded]
    subtitle: str


def plot(result: Any, title: str, heads: tuple[str, ...] = ()) -> Picture:
    """The chart that fits a result's shape: lines over time, bars of groups, a funnel, a retention map, goals'
    progress, lifts with their intervals, a card for one number.

    Args:
        title: stands above it.
        heads: the names of the parts of a mapping's keys.
    Raises:
        InvalidQuery: there is nothing to draw. BizError: altair is missing.
    """
    if isinstance(result, Outline):
        if all(point.value is None for point in result.banded):
            raise InvalidQuery("there is nothing to draw: too few samples")
        return charts.bands(result.banded, title, result.subtitle)
    if is_funnel(result):
        return _funnels({"": result}, title)
    if is_cohorts(result):
        return _cohorts({"": result}, title)
    if hasattr(type(result), "variants"):
        return lifts({"": result}, title)
    if _has(result, "current", "previous"):
        return charts.card(result.current, title, result.previous)
    if _progress([result]):
        return _goals([result], title)
    if isinstance(result, Mapping) and not isinstance(result, Row) and result:
        return _mapping(result, title, heads)
    if isinstance(result, list) and result:
        return _goals(result, title) if _progress(result) else _table(result, title)
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        return charts.card(result, title)
    what = (
        "no rows" if result in ([], {}) else "no number" if result is None else f"a {type(result).__name__}"
    )
    raise InvalidQuery(f"there is nothing to draw: the answer is {what}")


def _mapping(result: Mapping[Any, Any], title: str, heads: tuple[str, ...]) -> Picture:
    first = next(iter(result.values()))
    if is_cohorts(first):
        return _cohorts({_name(key): value for key, value in result.items()}, title)
    if is_funnel(first):
        placed = [(*_placed(key), funnel) for key, funnel in result.items()]
        points = [
            charts.Point(at, f.conversion, series, weight=f.steps[0].count)
            for at, series, f in placed
            if at is not None
        ]
        if points:
            return charts.lines(points, title, "conversion", fraction=True)
        return _funnels({_name(key): value for key, value in result.items()}, title)
    points = []
    for key, value in result.items():
        moment, series = _placed(key)
        number, before = _number(value)
        if moment is None:
            return _groups(result, title, heads)
        points.append(charts.Point(moment, number, series, before))
    return charts.lines(points, title)


def _placed(key: Any) -> tuple[date | None, str]:
    """A key's time, if it has one, and the name of the series it is in."""
    parts = key if isinstance(key, tuple) else (key,)
    moment = next((part for part in parts if isinstance(part, date)), None)
    return moment, " · ".join(_name(part) for part in parts if part is not moment)


def _groups(result: Mapping[Any, Any], title: str, heads: tuple[str, ...]) -> Picture:
    found = [charts.Bar(_name(key), *_number(value)) for key, value in result.items()]
    return charts.bars(found, title, " · ".join(heads))


def _number(value: Any) -> tuple[float | None, float | None]:
    """A value, and the one of the period before where there is one."""
    if _has(value, "current", "previous"):
        return _number(value.current)[0], _number(value.previous)[0]
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value, None
    raise InvalidQuery(f"there is nothing to draw in a {type(value).__name__}: numbers are drawn")


def _name(key: Any) -> str:
    if isinstance(key, tuple):
        return " · ".join(_name(part) for part in key)
    if key is None:
        return "(none)"
    if isinstance(key, date):
        return text(key).removesuffix(" 00:00:00")
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else text(key)


def _funnels(funnels: Mapping[str, Any], title: str) -> Picture:
    steps = [
        charts.FunnelBar(f"{n}. {step.name}", step.count, step.total_rate, step.rate, group)
        for group, funnel in funnels.items()
        for n, step in enumerate(funnel.steps, 1)
    ]
    whole = next(iter(funnels.values())) if len(funnels) == 1 else None
    subtitle = f"{whole.conversion * 100:.1f} % go all the way" if whole is not None else ""
    return charts.funnel_bars(steps, title, subtitle)


def _cohorts(tables: Mapping[str, Any], title: str) -> Picture:
    cells, unit = [], ""
    names = _brief([group for group in tables if group])
    for group, table in tables.items():
        unit = table.granularity
        form = {"month": "%Y-%m", "year": "%Y"}.get(unit, "%Y-%m-%d")
        for cohort in table.cohorts:
            row = charts.GAP.join([*names.get(group, []), cohort.start.strftime(form), f"{cohort.size:,}"])
            for period, share in enumerate(cohort.retention):
                cells.append(charts.Cell(row, str(period), share))
    if not cells:
        raise InvalidQuery("there is nothing to draw: no user is in a cohort")
    return charts.heatmap(cells, title, "share of each cohort that came back", f"{unit}s since the first")


def _brief(names: list[str]) -> dict[str, list[str]]:
    """Names that leave room for what stands after them, numbered where two are cut to the same."""
    found: dict[str, list[str]] = {}
    for name in names:
        short = name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"
        same = sum(1 for other in found.values() if other[0] == short)
        found[name] = [short, str(same + 1)] if same else [short]
    return found


def lifts(results: Mapping[Any, Any], title: str) -> Picture:
    """The interval of each variant's lift over the control; of several groups, each group's.

    Args:
        results: group to an experiment's results; the group "" alone has no name.
        title: stands above it.
    Raises:
        InvalidQuery: there is no lift yet.
    """
    altair()  # what is missing is said first
    found = []
    for group, result in results.items():
        for name, variant in result.variants.items():
            if variant.lift is not None and variant.lift_ci is not None:
                low, high = variant.lift_ci
                label = name if group == "" else f"{_name(group)} · {name}"
                found.append(charts.Interval(label, low, variant.lift, high, _better(variant, low, high)))
    if not found:
        raise InvalidQuery("there is nothing to draw: no variant has users to compare yet")
    whole = next(iter(results.values()))
    verdict = getattr(whole, "verdict", "") if len(results) == 1 else ""
    control = next(iter(whole.variants))
    return charts.intervals(found, title, verdict, f"lift over {control}, with its 95 % interval")


def _better(variant: Any, low: float, high: float) -> bool | None:
    """None where the interval holds zero. Of a goal that is to fall, less is better."""
    if low <= 0 <= high:
        return None
    chance = getattr(variant, "chance_to_beat", None)
    return low > 0 if chance is None else chance > 0.5


def _progress(items: list[Any]) -> bool:
    # Of the type: a record has whatever property it is asked for.
    return bool(items) and all(_has(item, "percent", "remaining") for item in items)


def _has(value: Any, *names: str) -> bool:
    return all(hasattr(type(value), name) for name in names)


def _goals(goals: list[Any], title: str) -> Picture:
    found = []
    for goal in goals:
        notes = []
        if goal.current is not None and goal.target is not None:
            notes.append(f"{charts.short(goal.current)} of {charts.short(goal.target)}")
        if goal.days_left is not None:
            notes.append(f"{goal.days_left} days left" if goal.days_left >= 0 else "over")
        projected = None
        if goal.projected is not None and goal.target and goal.current is not None and goal.projected >= 0:
            projected = 100 * goal.projected / goal.target if goal.target >= (goal.current or 0) else None
        found.append(charts.ProgressBar(goal.name, goal.percent, goal.status, " · ".join(notes), projected))
    return charts.progress_bars(found, title)


def _table(result: list[Any], title: str) -> Picture:
    """Rows: the first column of times or texts is across, the numbers are series."""
    table = to_table(result, title)
    columns = {name: [row[n] for row in table.rows] for n, name in enumerate(table.columns)}
    numbers = [name for name, values in columns.items() if _numeric(values)]
    times = [n for n, values in columns.items() if values and all(isinstance(v, date) for v in values)]
    numbers = [name for name in numbers if name not in ("position", "version")]
    if not numbers:
        raise InvalidQuery("there is nothing to draw: the rows hold no numbers")
    if times:
        several = len(numbers) > 1
        points = [
            charts.Point(moment, value, name if several else "")
            for name in numbers
            for moment, value in sorted(
                zip(columns[times[0]], columns[name], strict=True), key=lambda pair: pair[0]
            )
        ]
        return charts.lines(points, title, "" if several else numbers[0])
    names = next((values for name, values in columns.items() if name not in numbers), None)
    number = numbers[0]
    if names is None:
        names, number = columns[numbers[0]], numbers[-1]
    found = [charts.Bar(_name(n), value) for n, value in zip(names, columns[number], strict=True)]
    return charts.bars(found, title, number)


def _numeric(values: list[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known)
