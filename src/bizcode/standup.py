"""`biz.standup()`: the morning report in Markdown, made without any model."""

from __future__ import annotations

from typing import Any

from .errors import InvalidQuery
from .query import Lazy

__all__ = ["standup"]


def standup(biz: Any) -> Lazy[str]:
    """Goals, experiments, alerts and what moved since the same time yesterday, as Markdown."""
    return Lazy(lambda: _report(biz), "standup", biz.store.engine)


def _report(biz: Any) -> str:
    lines = [f"# Standup, {biz.now():%A %d %B %Y}"]
    lines += _section("Goals", _goals(biz), "No goals are set.")
    lines += _section("Experiments", _experiments(biz), "No experiment is running.")
    lines += _section("Alerts", _alerts(biz), "Nothing is firing.")
    lines += _section("What moved in the last 24 hours", _moved(biz), "Nothing was recorded.")
    return "\n".join(lines) + "\n"


def _section(title: str, found: list[str], empty: str) -> list[str]:
    return ["", f"## {title}", "", *(found or [empty])]


def _goals(biz: Any) -> list[str]:
    found = []
    for p in biz.goal.all().progress().run():
        due = "" if p.days_left is None else f", {p.days_left} days left"
        found.append(f"- **{p.name}**: {p.status}, {p.percent:.0f} %{due}")
    return found


def _experiments(biz: Any) -> list[str]:
    found = []
    for one in biz.experiment.list(status="running").run():
        result = biz.experiment(one.name).results().run()
        verdict = (
            f"winner {result.winner}"
            if result.winner
            else "can be called"
            if result.can_call
            else "too early to call"
        )
        users = sum(variant.users for variant in result.variants.values())
        found.append(f"- **{one.name}**: {verdict}, {users:,} users")
    return found


def _alerts(biz: Any) -> list[str]:
    return [f"- **{a.name}** ({a.metric}): {a.state}" for a in biz.alerts.list().run() if a.state != "ok"]


def _moved(biz: Any) -> list[str]:
    found = []
    for name in biz.track.names().run():
        change = biz.track[name].count().since("1d").vs("prev").run()
        if change.current or change.previous:
            found.append(_line(name, change))
    for name in biz.measure.names().run():
        metric = biz.measure[name]
        level = metric.kind == "gauge"
        try:
            change = (metric.last() if level else metric.sum()).since("1d").vs("prev").run()
        except InvalidQuery:  # the samples of the day before are deleted already
            continue
        if change.current is not None if level else change.current or change.previous:
            found.append(_line(name if level else f"{name} (sum)", change))
    return found


def _line(name: str, change: Any) -> str:
    percent = "" if change.percent is None else f" ({change.percent:+.0f} %)"
    now, before = ("none" if n is None else f"{n:,.6g}" for n in (change.current, change.previous))
    return f"- {name}: {now}, before {before}{percent}"
