"""The charts: bars, lines, a heat map, intervals, a funnel, progress, a card. Pure: values in, a picture out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from .picture import AMBER, BLUE, FAINT, GHOST, GREEN, GRID, INK, PALETTE, RED, Picture, altair, styled, wall
from .text import text

__all__ = [
    "GAP",
    "Banded",
    "Bar",
    "Cell",
    "FunnelBar",
    "Interval",
    "Point",
    "ProgressBar",
    "bands",
    "bars",
    "card",
    "funnel_bars",
    "heatmap",
    "intervals",
    "lines",
    "progress_bars",
]

WIDTH, HEIGHT = 720, 300
MOST_BARS, MOST_LINES, MOST_ROWS = 30, 8, 60
GAP = "\u00a0\u00a0\u00a0"  # SVG draws several plain spaces as one


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `previous` is drawn behind it."""

    name: str
    value: float | None
    previous: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series at a time; `previous` is the value of the period before at the same place. Series are
    ranked by their `weight`, where there is none by the values."""

    time: date
    value: float | None
    series: str = ""
    previous: float | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a heat map: a share 0 to 1, None for nothing."""

    row: str
    column: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; `good` says whether it is an improvement, None where that can't be told."""

    name: str
    low: float
    middle: float
    high: float
    good: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class FunnelBar:
    """One step of a funnel, of one group."""

    step: str
    count: int
    total_rate: float
    rate: float
    group: str = ""


@dataclass(frozen=True, slots=True)
class ProgressBar:
    """A goal: percent 0 to 100, where it is projected to end, and its status."""

    name: str
    percent: float
    status: str
    note: str = ""
    projected: float | None = None


@dataclass(frozen=True, slots=True)
class Banded:
    """A value beside the band it was expected in; `flagged` where it stands out."""

    time: date
    value: float | None
    low: float
    high: float
    flagged: bool


def _data(alt: Any, rows: list[dict[str, Any]]) -> Any:
    return alt.Data(values=rows)


def short(value: float | None, fraction: bool = False) -> str:
    """A number for a label: 1,234 or 12.5k or 3.4M.

    >>> short(1234), short(125_000), short(0.256, fraction=True), short(2.5)
    ('1,234', '125k', '25.6 %', '2.5')
    """
    if value is None:
        return ""
    if fraction:
        return f"{value * 100:.1f} %"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return (
                f"{value / size:.3g}{letter}" if abs(value) < 1000 * size else f"{value / size:,.0f}{letter}"
            )
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    )


def _axis(alt: Any, values: Iterable[float | None], fraction: bool = False) -> Any:
    """The axis of numbers: 2k and 3M for large ones, 0.05 (not d3's 50m) for small ones."""
    large = max((abs(value) for value in values if value is not None), default=0) >= 1000
    return alt.Axis(format=".0%" if fraction else "~s" if large else "~f", tickCount=5)


def _dates(alt: Any, times: Sequence[date]) -> Any:
    """The axis of time. Weeks begin on Mondays, which Vega doesn't know: its own ticks are Sundays."""
    days = sorted({(time.year, time.month, time.day) for time in times})
    if days and len(days) == len(set(times)) and all(time.weekday() == 0 for time in times):
        ticks = [
            alt.DateTime(year=year, month=month, date=day, utc=True)
            for year, month, day in days[:: -(-len(days) // 8)]
        ]
        return alt.Axis(grid=False, values=ticks, format="%b %d")
    return alt.Axis(grid=False, tickCount=8)


def lines(points: Sequence[Point], title: str, subtitle: str = "", fraction: bool = False) -> Picture:
    """Series over time. One series is filled below; the period before is a dashed ghost. Of many series the
    largest eight are drawn."""
    alt = altair()
    totals: dict[str, float] = {}
    for point in points:
        totals[point.series] = totals.get(point.series, 0.0) + abs(
            point.weight if point.weight is not None else point.value or 0
        )
    names = sorted(totals, key=lambda name: -totals[name])[:MOST_LINES]
    if len(totals) > len(names):
        subtitle = f"{subtitle + ' · ' if subtitle else ''}the largest {len(names)} of {len(totals):,}"
    rows = [
        {
            "time": wall(p.time),
            "when": text(p.time).removesuffix(" 00:00:00"),
            "series": p.series,
            "value": p.value,
            "previous": p.previous,
            "label": short(p.value, fraction),
        }
        for p in points
        if p.series in names
    ]
    several = len(names) > 1
    moments = len({row["time"] for row in rows})
    axis = _axis(alt, [p.value for p in points] + [p.previous for p in points], fraction)
    y = alt.Y("value:Q", title=None, axis=axis)
    base = alt.Chart(_data(alt, rows)).encode(
        x=alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=_dates(alt, [p.time for p in points]))
    )
    colour = (
        alt.Color("series:N", sort=names, scale=alt.Scale(domain=names, range=PALETTE[: len(names)]))
        if several
        else alt.value(BLUE)
    )
    tips = [alt.Tooltip("when:N", title="time"), alt.Tooltip("label:N", title="value")]
    if several:
        tips.insert(1, alt.Tooltip("series:N"))
    drawn = []
    if not several:
        fill = alt.Gradient(
            gradient="linear",
            x1=1,
            x2=1,
            y1=1,
            y2=0,
            stops=[
                alt.GradientStop(color="#2f5bea05", offset=0),
                alt.GradientStop(color="#2f5bea30", offset=1),
            ],
        )
        drawn.append(base.mark_area(color=fill, line=False).encode(y=y))
    if any(row["previous"] is not None for row in rows):
        ghost = base.mark_line(strokeDash=[5, 4], strokeWidth=1.8, opacity=0.5 if several else 1)
        drawn.append(ghost.encode(y=alt.Y("previous:Q"), color=colour if several else alt.value("#9aa5ba")))
        subtitle = f"{subtitle + ' · ' if subtitle else ''}dashed: the period before"
    line = base.mark_line(strokeWidth=2.6, strokeCap="round", strokeJoin="round", point=moments == 1)
    drawn.append(line.encode(y=y, color=colour))
    if 1 < moments <= 40:
        dots = base.mark_point(filled=True, size=34, opacity=1)
        drawn.append(dots.encode(y=y, color=colour, tooltip=tips))
    else:
        drawn.append(base.mark_point(size=60, opacity=0).encode(y=y, tooltip=tips))
    return styled(alt.layer(*drawn).properties(width=WIDTH, height=HEIGHT), title, subtitle)


def bars(items: Sequence[Bar], title: str, subtitle: str = "", fraction: bool = False) -> Picture:
    """Bars from the left, each with its value; the period before stands behind. The first thirty are drawn."""
    alt = altair()
    if len(items) > MOST_BARS:
        subtitle = f"{subtitle + ' · ' if subtitle else ''}the first {MOST_BARS} of {len(items):,}"
    items = items[:MOST_BARS]
    rows = [
        {
            "name": item.name,
            "value": item.value,
            "previous": item.previous,
            "edge": max(item.value or 0, item.previous or 0),
            "label": _against(item, fraction),
        }
        for item in items
    ]
    base = alt.Chart(_data(alt, rows)).encode(
        y=alt.Y("name:N", sort=[row["name"] for row in rows], title=None, axis=alt.Axis(labelColor=INK))
    )
    axis = _axis(alt, [item.value for item in items] + [item.previous for item in items], fraction)
    x = alt.X("value:Q", title=None, axis=axis)
    drawn = []
    ghosted = any(row["previous"] is not None for row in rows)
    if ghosted:
        drawn.append(
            base.mark_bar(color=GHOST, cornerRadiusEnd=3, height={"band": 0.86}).encode(x=alt.X("previous:Q"))
        )
        subtitle = f"{subtitle + ' · ' if subtitle else ''}grey: the period before"
    drawn += [
        base.mark_bar(color=BLUE, cornerRadiusEnd=3, height={"band": 0.42 if ghosted else 0.66}).encode(x=x),
        base.mark_text(align="left", dx=6, color=INK, fontSize=12).encode(x=alt.X("edge:Q"), text="label:N"),
    ]
    return styled(alt.layer(*drawn).properties(width=WIDTH - 120, height=alt.Step(34)), title, subtitle)


def _against(item: Bar, fraction: bool) -> str:
    label = short(item.value, fraction)
    if item.previous and item.value is not None:
        label += f"{GAP}{(item.value - item.previous) / abs(item.previous):+.0%}"
    return label


def heatmap(cells: Sequence[Cell], title: str, subtitle: str = "", across: str = "") -> Picture:
    """Shares as shades, rows and columns in the order of their first cell. The first sixty rows are drawn."""
    alt = altair()
    rows = list(dict.fromkeys(cell.row for cell in cells))
    if len(rows) > MOST_ROWS:
        subtitle = f"{subtitle + ' · ' if subtitle else ''}the first {MOST_ROWS} of {len(rows):,}"
        rows = rows[:MOST_ROWS]
        shown = set(rows)
        cells = [cell for cell in cells if cell.row in shown]
    columns = list(dict.fromkeys(cell.column for cell in cells))
    values = [
        {"row": c.row, "column": c.column, "share": c.share, "label": f"{c.share * 100:.0f}%"}
        for c in cells
        if c.share is not None
    ]
    top = max((v["share"] for v in values if v["share"] < 0.999), default=1.0)
    base = alt.Chart(_data(alt, values)).encode(
        x=alt.X(
            "column:N",
            sort=columns,
            title=across or None,
            axis=alt.Axis(orient="top", labelAngle=0, titleAnchor="start", titlePadding=8),
        ),
        y=alt.Y("row:N", sort=rows, title=None, axis=alt.Axis(labelColor=INK)),
    )
    shade = alt.Scale(domain=[0, max(top, 0.01)], range=["#eef2fd", BLUE], clamp=True, interpolate="lab")
    boxes = base.mark_rect(stroke="white", strokeWidth=2, cornerRadius=4).encode(
        color=alt.Color("share:Q", scale=shade, legend=None)
    )
    labels = base.mark_text(fontSize=11.5).encode(
        text="label:N",
        color=alt.condition(f"datum.share > {top * 0.55}", alt.value("white"), alt.value(INK)),
    )
    size = 56 if len(columns) <= 14 else 44
    return styled(
        alt.layer(boxes, labels).properties(width=alt.Step(size), height=alt.Step(30)), title, subtitle
    )


def intervals(items: Sequence[Interval], title: str, subtitle: str = "", axis: str = "") -> Picture:
    """Estimates as points on their intervals, beside a line at zero; good ones green, bad ones red."""
    alt = altair()
    colours = {True: GREEN, False: RED, None: "#7d8799"}
    rows = [
        {
            "name": item.name,
            "low": item.low,
            "middle": item.middle,
            "high": item.high,
            "tone": colours[item.good],
            "label": item.note or f"{item.middle:+.1%}",
        }
        for item in items
    ]
    base = alt.Chart(_data(alt, rows)).encode(
        y=alt.Y("name:N", sort=[row["name"] for row in rows], title=None, axis=alt.Axis(labelColor=INK)),
        color=alt.Color(
            "tone:N",
            scale=alt.Scale(domain=list(colours.values()), range=list(colours.values())),
            legend=None,
        ),
    )
    zero = alt.Chart(_data(alt, [{"zero": 0}])).mark_rule(color=FAINT, strokeDash=[4, 4]).encode(x="zero:Q")
    reach = base.mark_rule(strokeWidth=10, opacity=0.28, strokeCap="round").encode(
        x=alt.X("low:Q", title=axis or None, axis=alt.Axis(format="+.0%", tickCount=7)), x2="high:Q"
    )
    middle = base.mark_point(filled=True, size=150, opacity=1).encode(x="middle:Q")
    labels = base.mark_text(dy=-17, fontSize=12, fontWeight=600).encode(x="middle:Q", text="label:N")
    drawn = alt.layer(zero, reach, middle, labels).properties(width=WIDTH - 140, height=alt.Step(58))
    return styled(drawn, title, subtitle)


def funnel_bars(steps: Sequence[FunnelBar], title: str, subtitle: str = "") -> Picture:
    """The steps from above, each bar beside the track of all who began; groups side by side, at most six."""
    alt = altair()
    groups = list(dict.fromkeys(step.group for step in steps))
    if len(groups) > 6:
        subtitle = f"{subtitle + ' · ' if subtitle else ''}the first 6 of {len(groups):,}"
        groups = groups[:6]
    several = len(groups) > 1
    order = list(dict.fromkeys(step.step for step in steps))
    first = max((step.count for step in steps), default=0)
    rows = [
        {
            "step": s.step,
            "group": s.group,
            "share": s.total_rate,
            "count": s.count,
            "all": 1.0 if several else first,
            "label": f"{s.count:,}{GAP}{s.total_rate * 100:.1f} %",
            "below": "" if s.step == order[0] else f"{s.rate * 100:.1f} % of the step before",
        }
        for s in steps
        if s.group in groups
    ]
    field = "share:Q" if several else "count:Q"
    gaps = alt.Scale(paddingInner=0.2, paddingOuter=0.1)  # a bar's own height would be measured on the step
    band = {"yOffset": alt.YOffset("group:N", sort=groups, scale=gaps)} if several else {}
    base = alt.Chart(_data(alt, rows)).encode(
        y=alt.Y("step:N", sort=order, title=None, axis=alt.Axis(labelColor=INK, labelFontSize=13)), **band
    )
    colour = (
        alt.Color("group:N", sort=groups, scale=alt.Scale(domain=groups, range=PALETTE[: len(groups)]))
        if several
        else alt.value(BLUE)
    )
    axis = alt.X(field, title=None, axis=None)
    height = {} if several else {"height": {"band": 0.6}}
    drawn = [
        base.mark_bar(color=GRID, cornerRadius=4, **height).encode(x=alt.X("all:Q", axis=None)),
        base.mark_bar(cornerRadius=4, **height).encode(x=axis, color=colour),
        base.mark_text(align="left", dx=10, color=INK, fontSize=12.5, fontWeight=600).encode(
            x=alt.X("all:Q"), text="label:N"
        ),
    ]
    if not several:
        below = base.mark_text(align="left", dx=10, dy=16, color=FAINT, fontSize=11)
        drawn.append(below.encode(x=alt.X("all:Q"), text="below:N"))
    step = alt.Step(24, **{"for": "position"}) if several else 62
    tall = step if not several else max(90, 26 * len(groups) * len(order))
    size = alt.Step(step) if not several else tall
    return styled(alt.layer(*drawn).properties(width=WIDTH - 220, height=size), title, subtitle)


def progress_bars(items: Sequence[ProgressBar], title: str, subtitle: str = "") -> Picture:
    """Goals as filled tracks, coloured by status, a tick where each is projected to end."""
    alt = altair()
    tones = {
        "achieved": GREEN,
        "on-track": GREEN,
        "open": BLUE,
        "at-risk": AMBER,
        "off-track": RED,
        "missed": RED,
    }
    rows = [
        {
            "name": item.name,
            "percent": max(0.0, min(100.0, item.percent)),
            "full": 100,
            "projected": None if item.projected is None else max(0.0, min(100.0, item.projected)),
            "status": item.status,
            "label": f"{item.percent:.0f} %{GAP}{item.status}",
            "note": item.note,
        }
        for item in items
    ]
    base = alt.Chart(_data(alt, rows)).encode(
        y=alt.Y(
            "name:N",
            sort=[row["name"] for row in rows],
            title=None,
            axis=alt.Axis(labelColor=INK, labelFontSize=13),
        )
    )
    tone = alt.Color("status:N", scale=alt.Scale(domain=list(tones), range=list(tones.values())), legend=None)
    height = {"band": 0.32}
    drawn = [
        base.mark_bar(color=GRID, cornerRadius=6, height=height).encode(
            x=alt.X("full:Q", axis=None, scale=alt.Scale(domain=[0, 100]))
        ),
        base.mark_bar(cornerRadius=6, height=height).encode(x="percent:Q", color=tone),
        base.mark_tick(color=INK, thickness=2, height={"band": 0.5}).encode(x="projected:Q"),
        base.mark_text(align="left", dx=12, fontSize=12.5, fontWeight=600).encode(
            x="full:Q", text="label:N", color=tone
        ),
        base.mark_text(align="left", dx=12, dy=16, fontSize=11, color=FAINT).encode(
            x="full:Q", text="note:N"
        ),
    ]
    if any(row["projected"] is not None for row in rows):
        subtitle = f"{subtitle + ' · ' if subtitle else ''}tick: projected at the deadline"
    return styled(alt.layer(*drawn).properties(width=WIDTH - 260, height=alt.Step(56)), title, subtitle)


def bands(points: Sequence[Banded], title: str, subtitle: str = "") -> Picture:
    """A series in the band it was expected in; what stands out is marked."""
    alt = altair()
    rows = [
        {
            "time": wall(p.time),
            "when": text(p.time).removesuffix(" 00:00:00"),
            "value": p.value,
            "low": p.low,
            "high": p.high,
            "flagged": p.flagged,
            "label": short(p.value),
        }
        for p in points
    ]
    base = alt.Chart(_data(alt, rows)).encode(
        x=alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=_dates(alt, [p.time for p in points]))
    )
    axis = _axis(alt, [p.value for p in points] + [p.high for p in points])
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=axis)
    tips = [alt.Tooltip("when:N", title="time"), alt.Tooltip("label:N", title="value")]
    drawn = [
        base.mark_area(color=BLUE, opacity=0.13, interpolate="monotone").encode(
            y=alt.Y("low:Q"), y2="high:Q"
        ),
        base.mark_line(strokeWidth=2.2, color=BLUE).encode(y=y),
        base.transform_filter("datum.flagged")
        .mark_point(filled=True, size=110, color=RED, opacity=1)
        .encode(y=y, tooltip=tips),
        base.transform_filter("datum.flagged")
        .mark_text(dy=-14, color=RED, fontWeight=600, fontSize=11.5)
        .encode(y=y, text="label:N"),
    ]
    return styled(alt.layer(*drawn).properties(width=WIDTH, height=HEIGHT), title, subtitle)


def card(value: float | None, title: str, previous: float | None = None) -> Picture:
    """One number, large, with its change."""
    alt = altair()
    number = text(value)
    note, tone = "", FAINT
    if previous is not None and value is not None:
        before = text(previous)
        note = (
            f"{(value - previous) / abs(previous):+.1%} against {before}" if previous else f"before: {before}"
        )
        tone = GREEN if value > previous else RED if value < previous else FAINT
    base = alt.Chart(_data(alt, [{"number": number, "note": note}]))
    drawn = [
        base.mark_text(fontSize=44, fontWeight=600, color=INK, align="left", x=0, y=34).encode(
            text="number:N"
        ),
        base.mark_text(fontSize=14, color=tone, align="left", x=0, y=78).encode(text="note:N"),
    ]
    return styled(alt.layer(*drawn).properties(width=300, height=90 if note else 60), title)
