"""Define an alert on a metric's samples or on any query."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..consume import Pattern
from ..errors import AlreadyExists, InvalidQuery
from ..plan.condition import Condition
from ..query.base import Query
from ..query.reach import describe
from ..record import EVENT, MEASURE, Row, record_of
from .alerts import Alert, Alerts
from .rule import AlertEvent, Rule, Status
from .watch import MetricWatcher, QueryWatcher

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["define"]


def _condition(condition: Any, above: Any, below: Any) -> tuple[Callable[[Any], bool], str]:
    given = [
        name
        for name, one in (("condition", condition), ("above", above), ("below", below))
        if one is not None
    ]
    if condition is not None and len(given) > 1:
        raise InvalidQuery("an alert takes condition=, or above= and below=")
    if isinstance(condition, Condition):
        return (lambda value: condition.matches(Row(value=value))), describe(condition)
    if condition is not None:
        if not callable(condition):
            raise InvalidQuery(
                f"condition= is a function of the value or an expression like this.value > 90, not {condition!r}"
            )
        return (lambda value: bool(condition(value))), describe(condition)
    if not given:
        return (lambda _: False), ""

    def holds(value: Any) -> bool:
        return (above is not None and value > above) or (below is not None and value < below)

    return holds, " or ".join(
        f"{name} {limit:g}" for name, limit in (("above", above), ("below", below)) if limit is not None
    )


def _check_limits(condition: Any, **limits: float | None) -> None:
    """Raises InvalidQuery for a limit that is no number, and for one to resolve at that can't end the incident."""
    for name, limit in limits.items():
        number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if limit is not None and not (number and isfinite(limit)):
            raise InvalidQuery(f"{name}= takes a number, not {limit!r}")
    above, below = limits["above"], limits["below"]
    resolve_below, resolve_above = limits["resolve_below"], limits["resolve_above"]
    if condition is None:
        if resolve_below is not None and (above is None or resolve_below > above):
            raise InvalidQuery(
                f"resolve_below={resolve_below!r} goes with above=, and is at most that: {above!r}"
            )
        if resolve_above is not None and (below is None or resolve_above < below):
            raise InvalidQuery(
                f"resolve_above={resolve_above!r} goes with below=, and is at least that: {below!r}"
            )


def _tags(by: Any) -> tuple[str, ...]:
    found = (by,) if isinstance(by, str) else () if by is None else by
    if not isinstance(found, (list, tuple)) or not all(isinstance(tag, str) and tag for tag in found):
        raise InvalidQuery(f'by= takes the name of a tag or a list of them, like by=["host"], not {by!r}')
    return tuple(found)


def define(
    store: Store,
    alerts: Alerts,
    source: Any,
    *,
    metric: str,
    name: str | None = None,
    condition: Any = None,
    above: float | None = None,
    below: float | None = None,
    for_: Any = None,
    notify: Callable[[AlertEvent], Any] | None = None,
    resolve: Callable[[AlertEvent], Any] | None = None,
    every: Any = None,
    by: Any = None,
    absent: Any = None,
    resolve_above: float | None = None,
    resolve_below: float | None = None,
    keep_firing_for: Any = None,
    min_samples: int = 0,
    since: Any = None,
) -> Alert:
    """Define an alert on a metric's samples (a Select) or on a query.

    Raises:
        InvalidQuery: no condition, or one that can't be used. AlreadyExists: another alert has that name.
        InvalidTime.
    """
    _check_limits(
        condition, above=above, below=below, resolve_above=resolve_above, resolve_below=resolve_below
    )
    holds, text = _condition(condition, above, below)
    if not text and absent is None:
        raise InvalidQuery("an alert needs a condition: condition=, above=, below= or absent=")
    if isinstance(min_samples, bool) or not isinstance(min_samples, int) or min_samples < 0:
        raise InvalidQuery(f"min_samples= is a whole number of at least 0, not {min_samples!r}")

    for option, function in (("notify", notify), ("resolve", resolve)):
        if function is not None and not callable(function):
            raise InvalidQuery(f"{option}= is a function of the AlertEvent, not {function!r}")

    def cleared(value: Any) -> bool:
        return (
            not holds(value)
            and (resolve_below is None or value < resolve_below)
            and (resolve_above is None or value > resolve_above)
        )

    def micros(value: Any) -> int | None:
        return None if value is None else when.exact(value)

    rule = Rule(
        holds,
        cleared,
        micros(for_) or 0,
        micros(keep_firing_for) or 0,
        micros(every),
        micros(absent),
        min_samples,
    )
    tags = _tags(by)
    full = values.name(name, "an alert") if name is not None else f"{metric} {text or 'absent'}"
    made = {
        "metric": metric,
        "rule": [
            text,
            rule.for_,
            rule.keep,
            rule.every,
            rule.absent,
            min_samples,
            resolve_above,
            resolve_below,
        ],
        "by": tags,
        "source": describe(getattr(source, "plan", None) or source)
        if not isinstance(source, Query)
        else metric,
        "enabled": True,
    }
    with store.log.transaction() as tx:
        kept = tx.get("define:alert", full)
        if kept is None:
            tx.put("define:alert", full, orjson.dumps(made))
        else:
            known = orjson.loads(kept)
            if (
                known["metric"] != metric
                or known["rule"] != orjson.loads(orjson.dumps(made["rule"]))
                or tuple(known["by"]) != tags
            ):
                raise AlreadyExists(f"the alert {full!r} is defined otherwise already: delete it first")
    if isinstance(source, Query):
        watcher: Any = QueryWatcher(
            alerts, full, rule, metric, tags, notify, resolve, query=source, count=_counter(source)
        )
    else:
        watcher = MetricWatcher(alerts, full, rule, metric, tags, notify, resolve, where=source.where)
        store_id = store.log.store_id
        pattern = Pattern(
            frozenset((MEASURE,)),
            frozenset(source.names or ()),
            lambda row: source.where.matches(record_of(row, store_id)),
        )
        if rule.absent is not None and not tags:
            with store.log.transaction() as tx:
                key = watcher._key({})
                if tx.get("alert", key) is None:
                    tx.put("alert", key, Status(at=store.now()).dump())
        store.consumers.follow(f"alert:{full}", pattern, handler=watcher, since=since)
    store.consumers.tickers(watcher)
    return Alert(alerts, full)


def _counter(query: Any) -> Callable[[], int] | None:
    """How many records a query looks at: of a ratio those below."""
    base = getattr(query, "bottom", query)
    plan = getattr(base, "plan", None)
    if plan is None or getattr(plan, "select", None) is None or plan.select.kind not in (EVENT, MEASURE):
        return None
    from dataclasses import replace

    counted = replace(base, plan=replace(plan, operation="count", field=None, by=(), vs=None))
    return counted.run
