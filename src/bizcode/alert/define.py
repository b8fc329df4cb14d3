"""Define an alert on a metric's samples or on any query."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..consume import Pattern
from ..errors import AlreadyExists, InvalidQuery
from ..plan.condition import Condition
from ..query.base import Query
from ..query.reach import describe
from ..record import MEASURE, Row
from .alerts import Alert, Alerts
from .question import QueryWatcher, asked_by
from .rule import AlertEvent, Rule, Status
from .watch import MetricWatcher, Watcher

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
        if not _is_number(value):
            return False  # the first value of a property, say, may be text
        return (above is not None and value > above) or (below is not None and value < below)

    return holds, " or ".join(
        f"{name} {limit:g}" for name, limit in (("above", above), ("below", below)) if limit is not None
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


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
        InvalidQuery: no condition, or one that can't be used; a query of anything but numbers. AlreadyExists: another alert has that name.
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
    asked = asked_by(source, tags, absent is not None) if isinstance(source, Query) else None
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
        "source": describe(source) if asked is None else asked.text,
        "enabled": True,
        "defined": store.now(),
    }
    with store.log.transaction() as tx:
        kept = tx.get("define:alert", full)
        if kept is None:
            tx.put("define:alert", full, orjson.dumps(made))
        else:
            known = orjson.loads(kept)
            if (
                known["metric"] != metric
                or known["source"] != made["source"]
                or known["rule"] != orjson.loads(orjson.dumps(made["rule"]))
                or tuple(known["by"]) != tags
            ):
                raise AlreadyExists(f"the alert {full!r} is defined otherwise already: delete it first")
    watcher: Watcher
    if asked is not None:
        watcher = QueryWatcher(alerts, full, rule, metric, asked.tags, notify, resolve, asked=asked)
    else:
        select: Any = source
        watcher = followed = MetricWatcher(
            alerts, full, rule, metric, tags, notify, resolve, where=select.where
        )
        pattern = Pattern(frozenset((MEASURE,)), frozenset(select.names or ()))
        if rule.absent is not None and not tags:
            with store.log.transaction() as tx:
                key = watcher._key({})
                if tx.get("alert", key) is None:
                    tx.put("alert", key, Status(at=store.now()).dump())
        store.consumers.follow(f"alert:{full}", pattern, handler=followed, since=since)
    store.consumers.tickers(watcher)
    return Alert(alerts, full)
