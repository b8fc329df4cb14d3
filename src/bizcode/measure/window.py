"""Statistics of a metric each so long: `biz.measure.revenue.window("5m").subscribe(fn)`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..consume import Subscription
from ..consume.consumer import CONFLICTS, RETRIES, call
from ..consume.dead import bury
from ..engine.relation import VALUE, Column
from ..errors import Conflict, InvalidQuery, InvalidValue
from ..plan.fields import as_field
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import Row
from ..unit import UnitOfWork

if TYPE_CHECKING:
    from ..log import Transaction
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
        if self._again():
            return self._window.store.now()
        return self._last + self._window.slide

    def _again(self) -> list[tuple[str, Any]]:
        """The dead letters that someone asked to retry. State space "window-again"."""
        kept = self._window.store.log.scan("window-again", f"{self.name}\0")
        return [(key, orjson.loads(value)) for key, value in kept]

    def tick(self, now: int) -> None:
        window = self._window
        for key, told in self._again():
            end = told["end"]
            rows = statistics(window.store, window.select, end - window.size, end, window.by)
            self._tell([row for row in rows if row.get("tags") == told["tags"]], end, key)
        while self._last + window.slide <= now:
            end = self._last + window.slide
            rows = statistics(window.store, window.select, end - window.size, end, window.by)
            for attempt in range(CONFLICTS + 1):
                try:
                    self._tell(rows, end)
                    break
                except Conflict:
                    if attempt == CONFLICTS:
                        raise
            self._last = end

    def _tell(self, rows: list[Row], end: int, again: str | None = None) -> None:
        """One window: what the function writes commits with how far the windows are. A row that it can't take is a
        dead letter, and the windows go on."""
        store = self._window.store
        unit = UnitOfWork(store.log)
        token = unit.enter()
        try:
            for row in rows:
                error = self._call(unit, row)
                if error is not None:
                    told = {"end": end, "tags": row.get("tags"), "count": row["count"], "sum": row["sum"]}
                    unit.action(partial(self._bury, error, told))
        except BaseException:
            unit.discard()
            raise
        finally:
            unit.leave(token)
        if again is not None:
            unit.put("window-again", again, None)
        elif self._durable:
            unit.put("window", self.name, str(end).encode())
        unit.commit()

    def _call(self, unit: UnitOfWork, row: Row) -> Exception | None:
        error: Exception | None = None
        for _ in range(RETRIES + 1):
            mark = unit.mark()
            try:
                call(self._fn, row)
                return None
            except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                error = raised
                unit.reset(mark)
        return error

    def _bury(self, error: Exception, told: dict[str, Any], tx: Transaction) -> None:
        key = f"{told['end']}:{orjson.dumps(told['tags']).decode()}"
        again = ("window-again", f"{self.name}\0{key}", told)
        bury(tx, self.name, None, error, RETRIES + 1, self._window.store.now(), told, key, again)


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

    with store.engine.asking() as session:
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
