"""Whole records of a selection, in order of time, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..plan import predicates
from ..plan.select import Select
from ..plan.sql import Parameters
from ..record import Stored, record_of
from .relation import Column, build
from .tail import PENDING

if TYPE_CHECKING:
    from .engine import Session

__all__ = ["at", "records"]

CHUNK = 5_000
_ORDER = {"position": Column("position"), "moment": Column("timestamp")}


def records(
    session: Session,
    select: Select,
    *,
    newest_first: bool = True,
    limit: int | None = None,
    offset: int = 0,
    span: tuple[int, int] | None = None,
) -> Iterator[list[Any]]:
    """Chunks of records, by timestamp, ties by position.

    First the order is found over two narrow columns, then each chunk is read whole: its records lie
    close together in time, so a chunk costs the row groups that it touches.
    """
    declarative, python = predicates.split(select.where)
    parameters = Parameters()
    from dataclasses import replace

    plain = replace(select, where=declarative)
    relation = build(session, plain, _ORDER, parameters, span=span)
    way = "DESC" if newest_first else "ASC"
    sql = f"SELECT position, epoch_us(moment) FROM ({relation.sql}) ORDER BY moment {way}, position {way}"
    if python is None and limit is not None:
        sql += f" LIMIT {int(limit)}"
    if python is None and offset:
        sql += f" OFFSET {int(offset)}"
    cursor = session.cursor.cursor() if not session.pending else session.cursor
    found = cursor.execute(sql, parameters.values)
    passed = 0
    size = CHUNK if limit is None else max(1, min(CHUNK, limit * 2))
    while keys := found.fetchmany(size):
        size = CHUNK
        chunk = at(session, keys)
        if python is not None:
            chunk = [record for record in chunk if python.matches(record)]
            start, passed = passed, passed + len(chunk)
            low = max(0, offset - start)
            high = len(chunk) if limit is None else max(0, offset + limit - start)
            chunk = chunk[low:high]
            if limit is not None and passed >= offset + limit:
                if chunk:
                    yield chunk
                return
        if chunk:
            yield chunk


def at(session: Session, keys: list[tuple[int, int]]) -> list[Any]:
    """The records at some (position, time), as far as they are there."""
    view = session.view
    positions = [position for position, _ in keys]
    found: dict[int, Stored] = {}
    sealed = [p for p in positions if p <= view.sealed_to]
    if sealed:
        times = [time for position, time in keys if position <= view.sealed_to]
        for row in session.engine.segments.at(
            sealed, since=min(times), until=max(times) + 1, catalog=view.catalog
        ):
            found[row.position] = row
    tail = [p for p in positions if view.sealed_to < p < PENDING]
    if tail:
        for row in _tail(session, view.table, tail):
            found[row.position] = row
    for p in positions:
        if p >= PENDING:
            found[p] = session.pending[p - PENDING]
    return [record_of(found[p], session.store_id) for p in positions if p in found]


def _tail(session: Session, table: str, positions: list[int]) -> list[Stored]:
    sql = (
        f'SELECT position, kind, name, epoch_us(timestamp), data, "user", id, entity, version, '
        f"value_int, value, experiments FROM {table} WHERE position IN (SELECT unnest($1::BIGINT[]))"
    )
    cursor = session.engine.connection.cursor()
    try:
        return [
            Stored(p, k, n, t, d, u, i, e, v, whole if whole is not None else real, x)
            for p, k, n, t, d, u, i, e, v, whole, real, x in cursor.execute(sql, [positions]).fetchall()
        ]
    finally:
        cursor.close()
