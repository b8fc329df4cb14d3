"""Charts of results, by altair: bars, lines with the previous period ghosted, funnels, retention heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from ..errors import BizError

__all__ = ["chart"]

BLUE, GHOST, INK = "#3b6fd4", "#b9c4d6", "#1f2937"


def chart(result: Any, title: str) -> Any:
    """An altair chart that fits the result's shape; `.save("x.png" | "x.svg" | "x.html")`."""
    try:
        import altair as alt
    except ImportError as error:
        raise BizError("plot() needs altair: pip install 'bizcode[plot]'") from error
    alt.data_transformers.disable_max_rows()
    if hasattr(result, "cohorts"):
        return _styled(alt, _heat(alt, result), "Retention")
    if hasattr(result, "steps") and hasattr(result, "conversion"):
        return _styled(alt, _funnel(alt, {None: result}), "Funnel")
    if isinstance(result, Mapping) and result:
        first = next(iter(result.values()))
        if hasattr(first, "conversion"):
            return _styled(alt, _funnel(alt, result), "Funnel")
        if hasattr(first, "cohorts"):
            parts = [_heat(alt, table).properties(title=str(key)) for key, table in result.items()]
            return _styled(alt, alt.vconcat(*parts), "Retention")
        return _styled(alt, _mapping(alt, result, title), title)
    before, now = getattr(result, "previous", None), getattr(result, "current", None)
    if before is not None and now is not None:
        pairs = {"previous": before, "now": now}
        return _styled(alt, _bars(alt, pairs, title, [GHOST, BLUE]), title)
    if isinstance(result, list) and result and hasattr(result[0], "expected"):
        return _styled(alt, _anomalies(alt, result), "Anomalies")
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        return _styled(alt, _bars(alt, {title: result}, title, [BLUE]), title)
    raise BizError(
        f"there is nothing to draw in {type(result).__name__}: group it by a time bucket or a property"
    )


def _styled(alt: Any, made: Any, title: str) -> Any:
    return (
        made.properties(title=alt.Title(title, anchor="start", fontSize=16, color=INK))
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="#4b5563",
            titleColor="#4b5563",
            gridColor="#eceff4",
            domainColor="#d1d5db",
            labelFontSize=11,
            tickCount=6,
        )
        .configure(font="Helvetica, Arial, sans-serif", background="white", padding=16)
    )


def _data(alt: Any, rows: list[dict[str, Any]]) -> Any:
    return alt.Data(
        values=[{k: v.isoformat() if isinstance(v, date) else v for k, v in row.items()} for row in rows]
    )


def _number(value: Any) -> Any:
    return getattr(value, "current", value)


def _mapping(alt: Any, result: Mapping[Any, Any], title: str) -> Any:
    rows = []
    for key, value in result.items():
        parts = key if isinstance(key, tuple) else (key,)
        moment = next((p for p in parts if isinstance(p, date)), None)
        others = [str(p) for p in parts if not isinstance(p, date)]
        name = " · ".join(others) if others else title
        rows.append(
            {
                "time": moment,
                "name": name,
                "value": _number(value),
                "previous": getattr(value, "previous", None),
            }
        )
    if all(row["time"] is None for row in rows):
        return _bars(alt, {row["name"]: row["value"] for row in rows[:40]}, title, [BLUE])
    several = len({row["name"] for row in rows}) > 1
    base = alt.Chart(_data(alt, rows)).encode(x=alt.X("time:T", title=None))
    colour = alt.Color("name:N", title=None) if several else alt.value(BLUE)
    line = base.mark_line(point=len(rows) <= 60, strokeWidth=2.5).encode(
        y=alt.Y("value:Q", title=title), color=colour, tooltip=["time:T", "name:N", "value:Q"]
    )
    if any(row["previous"] is not None for row in rows):
        ghost = base.mark_line(strokeDash=[5, 4], strokeWidth=2).encode(
            y="previous:Q",
            color=alt.Color("name:N", title=None, legend=None) if several else alt.value(GHOST),
        )
        return (ghost + line).properties(width=640, height=280)
    return line.properties(width=640, height=280)


def _bars(alt: Any, pairs: Mapping[str, Any], title: str, colours: list[str]) -> Any:
    names = list(map(str, pairs))
    rows = [
        {"name": str(k), "value": v, "label": _short(v), "ghost": colours[n % len(colours)] == GHOST}
        for n, (k, v) in enumerate(pairs.items())
    ]
    base = alt.Chart(_data(alt, rows)).encode(
        y=alt.Y("name:N", sort=names, title=None), x=alt.X("value:Q", title=title)
    )
    bars = base.mark_bar(cornerRadiusEnd=3, height={"band": 0.7}).encode(
        color=alt.condition("datum.ghost", alt.value(GHOST), alt.value(BLUE))
    )
    labels = base.mark_text(align="left", dx=4, color=INK).encode(text=alt.Text("label:N"))
    return (bars + labels).properties(width=560, height=alt.Step(30))


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _funnel(alt: Any, funnels: Mapping[Any, Any]) -> Any:
    rows = []
    order: list[str] = []
    for key, funnel in funnels.items():
        for n, step in enumerate(funnel.steps, 1):
            name = f"{n}. {step.name}"
            if name not in order:
                order.append(name)
            share = f"{step.count:,} · {step.total_rate:.0%}"
            rows.append({"step": name, "count": step.count, "group": str(key), "label": share})
    base = alt.Chart(_data(alt, rows)).encode(y=alt.Y("step:N", sort=order, title=None))
    several = len(funnels) > 1
    extra: dict[str, Any] = {"yOffset": "group:N"} if several else {}
    colour = alt.Color("group:N", title=None) if several else alt.value(BLUE)
    bars = base.mark_bar(cornerRadiusEnd=4).encode(x=alt.X("count:Q", title="users"), color=colour, **extra)
    labels = base.mark_text(align="left", dx=5, color=INK).encode(x="count:Q", text="label:N", **extra)
    return (bars + labels).properties(
        width=560,
        height=max(160, 46 * len(order) * (min(len(funnels), 6) if several else 1) // (2 if several else 1)),
    )


def _heat(alt: Any, cohorts: Any) -> Any:
    rows = []
    order = []
    for cohort in cohorts.cohorts:
        name = f"{cohort.start:%Y-%m-%d}  ({cohort.size:,})"
        order.append(name)
        for k, share in enumerate(cohort.retention):
            if share is not None:
                rows.append({"cohort": name, "period": k, "share": share})
    base = alt.Chart(_data(alt, rows)).encode(
        x=alt.X("period:O", title=f"{cohorts.granularity}s since", axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("cohort:N", sort=order, title=None),
    )
    cells = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    )
    labels = base.mark_text(fontSize=11).encode(
        text=alt.Text("share:Q", format=".0%"),
        color=alt.condition("datum.share > 0.45", alt.value("white"), alt.value(INK)),
    )
    return (cells + labels).properties(width=alt.Step(54), height=alt.Step(28))


def _anomalies(alt: Any, found: list[Any]) -> Any:
    rows = [
        {"time": a.time, "value": a.value, "low": a.low, "high": a.high, "expected": a.expected}
        for a in found
    ]
    base = alt.Chart(_data(alt, rows)).encode(x=alt.X("time:T", title=None))
    band = base.mark_rule(strokeWidth=6, color=GHOST).encode(y=alt.Y("low:Q", title="value"), y2="high:Q")
    points = base.mark_point(filled=True, size=90, color="#d43b3b").encode(
        y="value:Q", tooltip=["time:T", "value:Q", "expected:Q"]
    )
    return (band + points).properties(width=640, height=280)
