"""A range of the log cut into parts for the workers: each sealed file by the statement that reads it, the unsealed rows
as they are.

A stream sees records as they were written: with those that were retracted later, under the user's id of then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...plan.select import Select
from ...plan.sql import Parameters
from ...segments import Segment
from ..engine import Engine, Session
from ..relation import Column
from .axis import Reach, Spans
from .feed import Piece, Rows, Shape, canonical

__all__ = ["Cut", "reading", "times"]


class _Only:
    """A catalog in which there is one file, or none."""

    def __init__(self, catalog: Any, segment: Segment | None) -> None:
        self._catalog = catalog
        self._segments = [] if segment is None else [segment]

    def select(self, *_: Any) -> list[Segment]:
        return self._segments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A moment of the store in which nothing is retracted or merged."""
    with Engine.session(engine) as session:
        session.view = replace(session.view, retracted={}, merged=False)
        yield session


def times(session: Session, selects: Sequence[Select], span: tuple[int, int]) -> tuple[Any, Any]:
    """Positions and times of the selected records after one position and up to another, in order of position."""
    import numpy

    found: list[Any] = []
    for select in selects:
        parameters = Parameters()
        columns = {"p": Column("position"), "t": Column("timestamp")}
        relation = session.relation(select, columns, parameters, span)
        sql = f"SELECT p, epoch_us(t) AS t FROM ({relation.sql})"
        found.append(session.cursor.sql(sql, params=parameters.values).to_arrow_table())
    if not found:
        return numpy.empty(0, dtype=numpy.int64), numpy.empty(0, dtype=numpy.int64)
    positions = numpy.concatenate([table["p"].to_numpy() for table in found])
    moments = numpy.concatenate([table["t"].to_numpy() for table in found])
    order = numpy.argsort(positions, kind="stable")
    return positions[order], moments[order]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a range is read.

    Args:
        columns: what each record gives: "p", "t", "f", "g", keys "k0", ..., values "v0", ...
        met: positions of rows that came behind a watermark that matters to them, and that watermark.
        mark: the watermark before the range.
    """

    shape: Shape
    columns: Mapping[str, Column]
    spans: Spans | Reach
    met: tuple[Any, Any]
    mark: int

    def parts(self, session: Session, select: Select, span: tuple[int, int]) -> list[Any]:
        """What is to be read of a selection, by whom it may be."""
        view = session.view
        low, high = session.range(select).bounds
        found: list[Any] = []
        for segment in view.catalog.select(select.kind, select.names, low, high):
            if segment.last_position <= span[0] or segment.first_position > span[1]:
                continue
            session.view = replace(view, catalog=_Only(view.catalog, segment), names={})  # type: ignore[arg-type]
            found.append(self._sealed(session, select, span, segment))
        session.view = replace(view, catalog=_Only(view.catalog, None))  # type: ignore[arg-type]
        if view.names:
            found += self._unsealed(session, select, span)
        session.view = view
        return found

    def _statement(self, session: Session, select: Select, span: tuple[int, int]) -> tuple[str, Any, Any]:
        parameters = Parameters()
        relation = session.relation(select, self.columns, parameters, span)
        others = ", ".join(name for name in self.columns if name not in ("p", "t"))
        sql = f"SELECT p, epoch_us(t) AS t, {others} FROM ({relation.sql})"
        return sql, parameters.values, relation.readings

    def _sealed(self, session: Session, select: Select, span: tuple[int, int], segment: Segment) -> Piece:
        import numpy

        sql, values, readings = self._statement(session, select, span)
        origin = session.place.origin(segment.file)
        behind, marks = self.met
        low, high = numpy.searchsorted(behind, (segment.first_position, segment.last_position + 1))
        return Piece(
            sql,
            values,
            {str(session.place.directory / segment.file): origin},
            readings,
            self.spans,
            (behind[low:high], marks[low:high]),
            self.mark,
        )

    def _unsealed(self, session: Session, select: Select, span: tuple[int, int]) -> list[Rows]:
        sql, values, readings = self._statement(session, select, span)
        table = session.cursor.sql(sql, params=values).to_arrow_table()
        if not len(table):
            return []
        return [Rows.of(canonical(table, self.shape, readings, self.spans, self.met, self.mark))]
