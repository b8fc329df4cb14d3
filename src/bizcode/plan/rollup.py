"""What a rollup is: which buckets and numbers of a metric are kept, of which tags, for how long.

State spaces: "define:rollup" (key = the metric), "rollup" (key = the metric: how far and how much, see `State`),
"rollup:<granularity>:<metric>" (the cells, key = bucket and tags), "rollup-stale:<metric>" (cells whose extremes
must be found anew). The consumer of a metric's rollup is "rollup:<metric>".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from .. import when
from ..errors import InvalidQuery

__all__ = [
    "AGGREGATES",
    "DEFINED",
    "STATES",
    "Rollup",
    "State",
    "consumer",
    "key",
    "nests",
    "place",
    "space",
    "stale_space",
]

AGGREGATES = ("sum", "count", "avg", "min", "max", "percentiles", "last")
DEFINED = "define:rollup"
STATES = "rollup"
_ZERO = 2**62
_MONTH = 30.4375 * 86_400_000_000
_DAY = 86_400_000_000
_SHORTEST = {
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": _DAY,
    "week": 7 * _DAY,
    "month": 28 * _DAY,
    "quarter": 90 * _DAY,
    "year": 365 * _DAY,
}


def nests(fine: str, coarse: str) -> bool:
    """Whether every bucket of one size lies in one bucket of the other."""
    if fine == coarse:
        return True
    return fine != "week" and when.UNITS.index(fine) < when.UNITS.index(coarse)


def consumer(name: str) -> str:
    """The name of the consumer that keeps a metric's rollup."""
    return f"rollup:{name}"


def space(level: str, name: str) -> str:
    """The state space of a metric's cells of one granularity."""
    return f"rollup:{level}:{name}"


def stale_space(name: str) -> str:
    return f"rollup-stale:{name}"


def key(bucket: int, tags: str = "") -> str:
    """A cell's key: ordered by time; without tags it is before all cells of the bucket."""
    return f"{bucket + _ZERO:020d}\0{tags}" if tags else f"{bucket + _ZERO:020d}"


def place(kept: str) -> tuple[int, str]:
    """(bucket, tags) of a cell's key."""
    return int(kept[:20]) - _ZERO, kept[21:]


@dataclass(frozen=True, slots=True)
class State:
    """How far a rollup is. `complete`: from which instant on a source ("raw" or a granularity) is complete, None
    or missing: it always was; `cuts`: up to where retention was last looked at; `first`: the earliest sample's
    time; `cells`: how many there are of each granularity; `generation` moves with every change of the cells."""

    generation: int = 0
    complete: Mapping[str, int] = field(default_factory=dict)
    cuts: Mapping[str, int] = field(default_factory=dict)
    first: int | None = None
    cells: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def parse(kept: bytes | None) -> State:
        return State() if kept is None else State(*orjson.loads(kept))

    def dump(self) -> bytes:
        held = [self.generation, dict(self.complete), dict(self.cuts), self.first, dict(self.cells)]
        return orjson.dumps(held)

    def moved(self, **changes: Any) -> State:
        """The state after one more change."""
        return replace(self, generation=self.generation + 1, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """A metric's rollup. `added` are granularities that were rolled up by hand; `without` are the properties that
    name a user: they are no tags here, a cell for each user would be as long as the samples."""

    name: str
    granularity: tuple[str, ...]
    aggregates: tuple[str, ...]
    retention: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    timezone: str = "UTC"

    @property
    def tz(self) -> ZoneInfo:
        """The zone whose calendar the buckets follow: the business's when it was defined."""
        return when.zone(self.timezone)

    @property
    def levels(self) -> tuple[str, ...]:
        """Every granularity kept, finest first."""
        return tuple(unit for unit in when.UNITS if unit in self.granularity or unit in self.added)

    @property
    def kept(self) -> frozenset[str]:
        """What a cell holds beside its count."""
        found = set(self.aggregates)
        return frozenset(found | ({"sum"} if found & {"sum", "avg"} else set()))

    def source(self, level: str) -> str | None:
        """The finer granularity that a level's cells add up from; None: from the samples."""
        finer = [unit for unit in self.levels[: self.levels.index(level)] if nests(unit, level)]
        return finer[-1] if finer else None

    def cut(self, source: str, now: int) -> int | None:
        """Up to where a source's retention has passed, on a bucket's edge; None: it is kept for ever."""
        length = dict(self.retention).get(source)
        if length is None:
            return None
        unit = self.levels[0] if source == "raw" else source
        return when.bucket(when.shift(now, when.duration(length), self.tz, back=True), unit, self.tz)

    def is_tag(self, name: str) -> bool:
        """Whether cells are told apart by a property."""
        return name not in self.without and (self.tags is None or name in self.tags)

    def tags_of(self, data: Mapping[str, Any]) -> str:
        """A sample's tags as one text, the same for equal tags."""
        return _tags(data, self.tags, self.without)

    def same(self, other: Rollup) -> bool:
        """Whether both were defined by the same words."""
        return (self.granularity, set(self.aggregates), dict(self.retention), self.tags) == (
            other.granularity,
            set(other.aggregates),
            dict(other.retention),
            other.tags,
        )

    def dump(self) -> bytes:
        return orjson.dumps(
            {
                "granularity": self.granularity,
                "aggregates": self.aggregates,
                "retention": dict(self.retention),
                "tags": self.tags,
                "added": self.added,
                "without": sorted(self.without),
                "timezone": self.timezone,
            }
        )

    @staticmethod
    def parse(name: str, kept: bytes) -> Rollup:
        return _parsed(name, kept)

    @staticmethod
    def make(
        name: str,
        granularity: Any,
        aggregates: Any,
        retention: Any,
        tags: Any,
        without: Iterable[str],
        timezone: str,
    ) -> Rollup:
        """A checked rollup. Raises InvalidQuery, and InvalidTime for a retention that is no duration."""
        levels = _chosen("granularity", granularity, when.UNITS)
        numbers = _chosen("aggregates", aggregates, AGGREGATES)
        if retention is not None and not isinstance(retention, Mapping):
            raise InvalidQuery(f'retention= is a mapping like {{"raw": "7d"}}, not {retention!r}')
        kept = []
        for source, length in (retention or {}).items():
            if source != "raw" and source not in levels:
                raise InvalidQuery(
                    f"retention= names {source!r}: it is for 'raw' and the rollup's {', '.join(levels)}"
                )
            found = when.duration(length)
            if source != "raw" and found.months * _MONTH + found.micros < _SHORTEST[source]:
                raise InvalidQuery(
                    f"retention= of {str(found)!r} for {source!r} is shorter than one {source}: keep it at least that long"
                )
            kept.append((source, str(found)))
        names = [tags] if isinstance(tags, str) else tags
        if names is not None and not all(isinstance(tag, str) and tag for tag in names):
            raise InvalidQuery(f"tags= takes names of tags, not {tags!r}")
        return Rollup(
            name=name,
            granularity=tuple(sorted(levels, key=when.UNITS.index)),
            aggregates=tuple(sorted(numbers, key=AGGREGATES.index)),
            retention=tuple(sorted(kept)),
            tags=None if names is None else tuple(sorted(set(names))),
            without=frozenset(without),
            timezone=timezone,
        )


def _chosen(option: str, given: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, Iterable) or isinstance(found, Mapping):
        raise InvalidQuery(f"{option}= takes a list of {', '.join(known)}, not {given!r}")
    names = tuple(dict.fromkeys(found))
    if not names:
        raise InvalidQuery(f"{option}= needs at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise InvalidQuery(f"{option}= has {name!r}, which is none of {', '.join(known)}")
    return names


@lru_cache(maxsize=256)
def _parsed(name: str, kept: bytes) -> Rollup:
    made = orjson.loads(kept)
    return Rollup(
        name=name,
        granularity=tuple(made["granularity"]),
        aggregates=tuple(made["aggregates"]),
        retention=tuple(sorted(made["retention"].items())),
        tags=None if made["tags"] is None else tuple(made["tags"]),
        added=tuple(made["added"]),
        without=frozenset(made["without"]),
        timezone=made["timezone"],
    )


def _tags(data: Mapping[str, Any], tags: tuple[str, ...] | None, without: frozenset[str]) -> str:
    held = {
        name: _plain(value)
        for name, value in data.items()
        if name not in without and (tags is None or name in tags)
    }
    return orjson.dumps(held, option=orjson.OPT_SORT_KEYS).decode()


def _plain(value: Any) -> Any:
    """Sealing may widen ints to doubles: both are one tag."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
