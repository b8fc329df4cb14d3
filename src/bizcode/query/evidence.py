"""How the evidence of an experiment grew: lifts and p-values over the days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InvalidQuery
from .picture import FAINT, PALETTE, Picture, altair, styled, wall
from .text import text

__all__ = ["over_time"]

WIDTH, LIFTS, P_VALUES = 660, 220, 130
CALLED = 0.05


def over_time(days: Sequence[Any], title: str) -> Picture:
    """Each variant's lift in its 95 % interval, and below it both p-values beside the line of 0.05.

    Args:
        days: each with `day` and `variants` (name to `lift`, `lift_ci`, `p_value`, `p_sequential`), cumulative.
        title: stands above it.
    Raises:
        InvalidQuery: there is no lift on any day. BizError: altair is missing.
    """
    alt = altair()
    rows = []
    for found in days:
        for name, variant in found.variants.items():
            if variant.lift is None or variant.lift_ci is None:
                continue
            rows.append(
                {
                    "time": wall(found.day),
                    "when": text(found.day).removesuffix(" 00:00:00"),
                    "variant": name,
                    "lift": variant.lift,
                    "low": variant.lift_ci[0],
                    "high": variant.lift_ci[1],
                    "p": variant.p_value,
                    "sequential": variant.p_sequential,
                }
            )
    if not rows:
        raise InvalidQuery("there is nothing to draw: no variant has users to compare on any day yet")
    names = list(dict.fromkeys(row["variant"] for row in rows))
    tips = [
        alt.Tooltip("when:N", title="day"),
        alt.Tooltip("variant:N"),
        alt.Tooltip("lift:Q", format="+.1%"),
        alt.Tooltip("p:Q", title="p, for one look", format=".4f"),
        alt.Tooltip("sequential:Q", title="p, sequential", format=".4f"),
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(grid=False, tickCount=8)),
        color=alt.Color(
            "variant:N",
            sort=names,
            scale=alt.Scale(domain=names, range=[PALETTE[n % len(PALETTE)] for n in range(len(names))]),
        ),
    )
    alone = len({row["time"] for row in rows}) == 1
    reach = base.mark_rule(strokeWidth=8, opacity=0.2) if alone else base.mark_area(opacity=0.13)
    lift = alt.Y("lift:Q", title="lift, 95 % interval", axis=alt.Axis(format="+.0%", tickCount=5))
    above = alt.layer(
        _level(alt, 0),
        reach.encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line(strokeWidth=2.4, point=True).encode(y=lift, tooltip=tips),
    ).properties(width=WIDTH, height=LIFTS)
    p = alt.Y("sequential:Q", title="p-value", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    below = alt.layer(
        _level(alt, CALLED),
        base.mark_line(strokeWidth=1.6, strokeDash=[5, 4], opacity=0.7).encode(y=alt.Y("p:Q"), tooltip=tips),
        base.mark_line(strokeWidth=2.4, point=True).encode(y=p, tooltip=tips),
    ).properties(width=WIDTH, height=P_VALUES)
    said = "below: the sequential p-value, dashed that for one look, and the line of 0.05"
    return styled(alt.vconcat(above, below), title, said)


def _level(alt: Any, value: float) -> Any:
    return (
        alt.Chart(alt.Data(values=[{"level": value}]))
        .mark_rule(color=FAINT, strokeDash=[4, 4])
        .encode(y=alt.Y("level:Q"))
    )
