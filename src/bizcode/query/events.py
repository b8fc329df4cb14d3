"""The records themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..engine import rows
from ..plan.select import Select
from .base import Query
from .selection import Selection, check_count

if TYPE_CHECKING:
    from ..engine import Engine
    from .present import Table

__all__ = ["EventsQuery"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class EventsQuery(Selection, Query[list[Any]]):
    """Records, newest first by timestamp, ties by position. Iterating streams them in bounded memory."""

    engine: Engine
    select: Select
    newest_first: bool = True
    rows_limit: int | None = None
    rows_offset: int = 0

    def oldest_first(self) -> EventsQuery:
        """In order of time instead."""
        return replace(self, newest_first=False)

    def limit(self, n: int) -> EventsQuery:
        """At most n records."""
        return replace(self, rows_limit=check_count(n, "limit"))

    def offset(self, n: int) -> EventsQuery:
        """Leave out the first n."""
        return replace(self, rows_offset=check_count(n, "offset"))

    @property
    def title(self) -> str:
        return "events"

    def _engine(self) -> Engine:
        return self.engine

    def _looked_at(self) -> Table:
        """The first records only, and how many there are."""
        from .present import view
        from .text import MOST_ROWS

        most = MOST_ROWS if self.rows_limit is None else min(MOST_ROWS, self.rows_limit)
        shown = view(replace(self, rows_limit=most).run(), self.title, zone=self.zone)
        return replace(shown, total=len(self))

    def _records(self) -> Iterator[Any]:
        if self.rows_limit == 0:
            return
        with self.engine.session() as session:
            for chunk in rows.records(
                session,
                self.select,
                newest_first=self.newest_first,
                limit=self.rows_limit,
                offset=self.rows_offset,
            ):
                yield from chunk

    def run(self) -> list[Any]:
        return [*self._records()]

    def __iter__(self) -> Iterator[Any]:
        return self._records()

    def __len__(self) -> int:
        from ..engine.aggregate import aggregate
        from ..plan.select import Aggregate

        with self.engine.asking() as session:
            total = aggregate(session, Aggregate(select=self.select, operation="count"))
        left = max(0, total - self.rows_offset)
        return left if self.rows_limit is None else min(left, self.rows_limit)

    async def __aiter__(self):
        for record in await self:
            yield record

    def sql(self) -> str:
        """The SQL that finds and orders them."""
        from ..plan import predicates
        from ..plan.sql import Parameters
        from .aggregate import shown

        with self.engine.session() as session:
            parameters = Parameters()
            plain, _ = predicates.split(self.select.where)
            relation = session.relation(replace(self.select, where=plain), rows._ORDER, parameters)
        way = "DESC" if self.newest_first else "ASC"
        sql = f"SELECT position, epoch_us(moment) FROM ({relation.sql}) ORDER BY moment {way}, position {way}"
        if self.rows_limit is not None:
            sql += f" LIMIT {self.rows_limit}"
        if self.rows_offset:
            sql += f" OFFSET {self.rows_offset}"
        return shown(sql, parameters.values)
