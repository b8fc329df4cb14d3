"""Statistics of a metric each so long: `biz.measure.revenue.window("5m").subscribe(fn)`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import when
from ..consume import Subscription
from ..consume.consumer import call
from ..engine.relation import VALUE, Column
from ..errors import InvalidQuery, InvalidValue
from ..plan.fields import as_field
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import Row
from ..unit import UnitOfWork

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Window", "statistics"]


@dataclass(frozen=True, slots=True)
class Window:
    """Windows aligned to the clock, in UTC; each is reported once its end has come."""

    store: Store
    select: Select
    size: int
    slide: int
    by: tuple[str, ...] = ()

    def subscribe(self, fn: Callable[[Row], Any], name: str | None = None) -> Subscription:
        """Call fn(stats) for each window that ends from now on, empty ones too.

        Args:
            fn: gets a row with start, end, count, sum, avg, min, max, last (and tags, with by=).
            name: makes it durable: windows that ended meanwhile are reported after a restart.
        """
        if not callable(fn):
            raise InvalidValue(f"subscribe() takes a function, not {fn!r}")
        id = name or f"window-{uuid.uuid4().hex[:12]}"
        ticker = _Windows(self, id, fn, durable=name is not None)
        consumers = self.store.consumers
        consumers.tickers(ticker)
        return Subscription(id, lambda: consumers.remove_ticker(id))


class _Windows:
    """Reports windows as they end. State space "window" of the durable ones: the last end reported."""

    def __init__(self, window: Window, name: str, fn: Callable[[Row], Any], durable: bool) -> None:
        self.name = name
        self._window = window
        self._fn = fn
        self._durable = durable
        self._last = window.store.now() // window.slide * window.slide
        if durable:
            kept = window.store.log.get("window", name)
            if kept is not None:
                self._last = int(kept)
            else:
                with window.store.log.transaction() as tx:
                    tx.put("window", name, str(self._last).encode())

    def due(self) -> int | None:
        return self._last + self._window.slide

    def tick(self, now: int) -> None:
        window = self._window
        while self._last + window.slide <= now:
            end = self._last + window.slide
            for row in statistics(window.store, window.select, end - window.size, end, window.by):
                unit = UnitOfWork(window.store.log)
                token = unit.enter()
                try:
                    call(self._fn, row)
                finally:
                    unit.leave(token)
                unit.commit()
            self._last = end
            if self._durable:
                with window.store.log.transaction() as tx:
                    tx.put("window", self.name, str(end).encode())


def make(store: Store, select: Select, size: Any, slide: Any, by: Any) -> Window:
    """A window. Raises InvalidTime, and InvalidQuery for a slide longer than the size."""
    length = when.exact(size)
    step = length if slide is None else when.exact(slide)
    if step > length:
        raise InvalidQuery(f"a window's slide ({slide}) can't be longer than its size ({size})")
    return Window(store, select, length, step, tuple([by] if isinstance(by, str) else by or ()))


def statistics(store: Store, select: Select, start: int, end: int, by: tuple[str, ...]) -> list[Row]:
    """One row of numbers for the samples of [start, end), or one per set of tags."""
    from dataclasses import replace

    with store.engine.session() as session:
        parameters = Parameters()
        columns = {
            "x": Column("number", VALUE),
            "moment": Column("timestamp"),
            "position": Column("position"),
        }
        for n, tag in enumerate(by):
            columns[f"k{n}"] = Column("key", as_field(tag))
        bounded = replace(select, since=when.to_datetime(start), until=when.to_datetime(end))
        relation = session.relation(bounded, columns, parameters)
        keys = [f"k{n}" for n in range(len(by))]
        numbers = "count(*), coalesce(sum(x), 0), avg(x), min(x), max(x), arg_max(x, (moment, position))"
        sql = f"SELECT {', '.join([*keys, numbers])} FROM ({relation.sql})"
        if keys:
            sql += f" GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}"
        found = session.fetch(sql, parameters)
    rows = []
    for row in found:
        tags = dict(zip(by, row, strict=False))
        values = dict(zip(("count", "sum", "avg", "min", "max", "last"), row[len(by) :], strict=True))
        bounds = {"start": when.to_datetime(start, store.tz), "end": when.to_datetime(end, store.tz)}
        rows.append(Row({**bounds, **values, **({"tags": tags, **tags} if by else {})}))
    return rows
