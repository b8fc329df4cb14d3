"""Which rollups answer a question exactly, and over which parts of its range."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from .. import when
from ..errors import InvalidQuery
from ..plan.condition import And, Compare, Condition, Not, Or
from ..plan.fields import _FALLBACK, Field
from ..plan.rollup import Rollup, State, nests
from ..plan.select import Aggregate

__all__ = ["RAW", "Expired", "Piece", "cover", "expired", "levels"]

RAW = "raw"
_NEEDS = {
    "sum": "sum",
    "avg": "sum",
    "min": "min",
    "max": "max",
    "last": "last",
    "current": "last",
    "median": "percentiles",
    "percentile": "percentiles",
}


class Expired(InvalidQuery):
    """What a question needs was deleted by the rollup's retention. `edge` is the last instant up to its range's
    end that a bucket begins at: up to there the question may still have an answer."""

    def __init__(self, message: str, edge: int | None = None) -> None:
        super().__init__(message)
        self.edge = edge


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a range, [start, end), None: without an end; `source` is "raw" or a granularity."""

    source: str
    start: int | None
    end: int | None


def levels(rollup: Rollup, query: Aggregate, timezone: str) -> list[str]:
    """The granularities that can answer parts of a question, coarsest first; none if its conditions, groups or
    numbers are not kept, or its buckets are of another timezone than the rollup's."""
    operation = query.operation
    needed = _NEEDS.get(operation)
    if operation == "rate":
        needed = "sum" if query.argument[1] else None
    elif needed is None and operation != "count":
        return []
    if (needed is not None and needed not in rollup.kept) or query.field is not None:
        return []
    for dimension in query.by:
        known = dimension.field is not None and _is_tag(rollup, dimension.field)
        if dimension.kind != "bucket" and not (dimension.kind == "property" and known):
            return []
    if not _tags_only(rollup, query.select.where):
        return []
    unit = query.bucket
    if unit is not None and timezone != rollup.timezone:
        return []
    return [level for level in reversed(rollup.levels) if unit is None or nests(level, unit.name)]


def _is_tag(rollup: Rollup, field: Field) -> bool:
    if (
        field.own
        or not field.path
        or (not field._raw and len(field.path) == 1 and field.path[0] in _FALLBACK)
    ):
        return False
    # A dotted name may lead into an object or be one property's own name: both must be told apart.
    return rollup.is_tag(field.path[0]) and rollup.is_tag(".".join(field.path))


def _tags_only(rollup: Rollup, where: Condition) -> bool:
    if isinstance(where, (And, Or)):
        return all(_tags_only(rollup, item) for item in where.items)
    if isinstance(where, Not):
        return _tags_only(rollup, where.item)
    if not isinstance(where, Compare):
        return False
    return all(_is_tag(rollup, field) for field in (where.field, where.value) if isinstance(field, Field))


def cover(low: int | None, high: int | None, found: list[str], state: State, tz: ZoneInfo) -> list[Piece]:
    """The pieces of [low, high) in order of time: whole buckets of the coarsest level, what is left at the edges
    by finer ones, the rest by the samples."""
    if low is not None and high is not None and low >= high:
        return []
    if not found:
        return [Piece(RAW, low, high)]
    level, finer = found[0], found[1:]
    start = None if low is None else _edge(low, level, tz, up=True)
    since = state.complete.get(level)
    if since is not None:
        start = since if start is None else max(start, since)
    end = None if high is None else _edge(high, level, tz, up=False)
    if start is not None and end is not None and start >= end:
        return cover(low, high, finer, state, tz)
    before = [] if start is None or start == low else cover(low, start, finer, state, tz)
    after = [] if end is None or end == high else cover(end, high, finer, state, tz)
    return [*before, Piece(level, start, end), *after]


def _edge(instant: int, level: str, tz: ZoneInfo, up: bool) -> int:
    start = when.bucket(instant, level, tz)
    return start if start == instant or not up else when.next_bucket(start, level, tz)


def expired(rollup: Rollup, state: State, what: str, high: int | None, tz: ZoneInfo) -> Expired:
    """The error of a question that needs samples which were deleted."""
    since = state.complete[RAW]
    kept = dict(rollup.retention).get(RAW, "their time")
    from_ = when.to_datetime(since, tz).isoformat()
    edge = None if high is None else when.bucket(high, rollup.levels[0], rollup.tz)
    return Expired(
        f"{what} of {rollup.name!r} can no longer be answered exactly: its samples are deleted after {kept}, "
        f"those before {from_} are gone, and what its rollup keeps ({', '.join(rollup.aggregates)} by "
        f"{', '.join(rollup.levels)}) can't stand for them; ask with .since({from_!r}) or by whole buckets",
        edge,
    )
