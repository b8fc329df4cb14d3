"""Checks every invariant of a store, and mends what can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from ..errors import StorageError
from ..log import Log
from . import files
from .catalog import RANGES, Catalog, Segment
from .change import DISCARDED
from .place import Place
from .read import open_file

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Problem", "Report", "examine"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with which file. kind: "orphan", "missing", "corrupt", "count", "duplicate", "log"."""

    kind: str
    where: str
    message: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The findings: `ok` when nothing is wrong (any more)."""

    records: int
    segments: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(problem.mended for problem in self.problems)

    def __str__(self) -> str:
        lines = [f"{self.records} records in {self.segments} segments and the log"]
        lines += [f"{'mended' if p.mended else 'PROBLEM'}: {p.message}" for p in self.problems]
        if not self.problems:
            lines.append("every invariant holds")
        return "\n".join(lines)


def examine(place: Place, log: Log, catalog: Catalog, mend: bool) -> Report:
    """Files against the catalog, checksums, records per sealed range of positions, and the log itself.
    The maintenance lock must be held; what is discarded was swept before."""
    problems = list(_orphans(place, log, catalog, mend))
    positions: list[np.ndarray] = []
    for segment in catalog.segments:
        try:
            positions.append(_checked(place, segment))
        except StorageError as error:
            missing = place.size(segment.file) is None
            problems.append(Problem("missing" if missing else "corrupt", segment.file, str(error)))
    problems += _records(log, catalog, positions)
    head = log.head()
    if head < catalog.sealed_to:
        problems.append(
            Problem("log", "log.db", f"log.db ends at position {head}, but {catalog.sealed_to} were sealed: "
                    "it is older than the segments, restore both from one backup")
        )  # fmt: skip
    problems += [Problem("log", "log.db", f"log.db is damaged: {text}") for text in log.check()]
    tail = sum(len(rows) for rows in _tail(log, catalog.sealed_to))
    return Report(sum(s.rows for s in catalog.segments) + tail, len(catalog.segments), problems)


def _tail(log: Log, after: int) -> Iterator[list[object]]:
    while rows := log.read(after, limit=20_000):
        yield list(rows)
        after = rows[-1].position


def _orphans(place: Place, log: Log, catalog: Catalog, mend: bool) -> Iterator[Problem]:
    known = {segment.file for segment in catalog.segments} | {file for file, _ in log.scan(DISCARDED)}
    for file in list(place.names()):
        if file in known:
            continue
        # Only what this library writes is its to delete.
        ours = file.endswith((".parquet", files.TEMPORARY))
        if mend and ours:
            place.remove(file)
        told = "is named by nothing: a crash left it behind" if ours else "is no segment: move it elsewhere"
        yield Problem("orphan", file, f"{file} {told}", mended=mend and ours)


def _checked(place: Place, segment: Segment) -> np.ndarray:
    """The positions in a file that is as the catalog says, sorted. Raises StorageError for any other."""
    held = f"{segment.rows} records of {segment.kind} {segment.name!r}"
    size = place.size(segment.file)
    with suppress(OSError):
        place.fresh(segment.file)
    with open_file(place, segment) as file:
        if size != segment.bytes or files.checksum(place.local(segment.file)) != segment.checksum:
            raise StorageError(
                f"{segment.file} was changed or damaged on disk ({held}): restore it from a backup, "
                "the rest stays readable"
            )
        table = file.read(["position", "timestamp"])
    import numpy as np

    positions, times = table["position"].to_numpy(), table["timestamp"].cast("int64").to_numpy()
    found = (len(positions), positions.min(), positions.max(), times.min(), times.max())
    said = (segment.rows, segment.first_position, segment.last_position, segment.min_time, segment.max_time)
    if found != said:
        raise StorageError(f"{segment.file} is another file than the catalog says ({held}): restore both")
    order = np.lexsort((positions, times))
    if not bool((order[1:] > order[:-1]).all()):
        raise StorageError(f"{segment.file} is not in order of time ({held}): restore it from a backup")
    return np.sort(positions)


def _records(log: Log, catalog: Catalog, parts: list[np.ndarray]) -> Iterator[Problem]:
    """Each sealed range of positions holds as many records as were sealed, none of them twice."""
    import numpy as np

    positions = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    twice = positions[1:][positions[1:] == positions[:-1]]
    if len(twice):
        yield Problem(
            "duplicate",
            files.ROOT,
            f"position {twice[0]} is in two segments, and {len(twice) - 1} others are",
        )
    complete = len(parts) == len(catalog.segments)
    end = 0
    for _, value in log.scan(RANGES):
        first, last, rows = orjson.loads(value)
        low, high = np.searchsorted(positions, [first, last + 1])
        if high - low != rows and complete:
            yield Problem(
                "count",
                files.ROOT,
                f"positions {first} to {last} hold {high - low} records, {rows} were sealed",
            )
        end = max(end, last)
    if len(positions) and positions[-1] > max(end, catalog.sealed_to):
        yield Problem("count", files.ROOT, f"position {positions[-1]} is in a segment, but was never sealed")
