"""Checks every invariant of a store, and mends what can be mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .catalog import Segment
from .files import checksum

if TYPE_CHECKING:
    from .store import SegmentStore

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


def examine(store: SegmentStore, mend: bool) -> Report:
    """Files against the catalog, checksums, counts per sealed range of positions, and the log itself."""
    catalog = store.catalog()
    problems: list[Problem] = []
    if mend:
        store.sweep()
    problems += _orphans(store, catalog.segments, mend)
    readable: list[Segment] = []
    for segment in catalog.segments:
        problem = _file(store, segment)
        if problem is None:
            readable.append(segment)
        else:
            problems.append(problem)
    if len(readable) == len(catalog.segments):
        problems += _positions(store, readable)
    problems += [Problem("log", "log.db", f"log.db is damaged: {text}") for text in store.log.check()]
    tail = len(store.log.read(catalog.sealed_to))
    return Report(sum(s.rows for s in catalog.segments) + tail, len(catalog.segments), problems)


def _orphans(store: SegmentStore, segments: tuple[Segment, ...], mend: bool) -> list[Problem]:
    known = {segment.file for segment in segments} | {file for file, _ in store.log.scan("garbage")}
    found = []
    root = store.directory / "segments"
    for path in sorted(root.rglob("*")) if root.exists() else []:
        file = path.relative_to(store.directory).as_posix()
        if path.is_dir() or file in known:
            continue
        if mend:
            path.unlink(missing_ok=True)
        found.append(
            Problem("orphan", file, f"{file} belongs to no record: a crash left it behind", mended=mend)
        )
    return found


def _file(store: SegmentStore, segment: Segment) -> Problem | None:
    path = store.directory / segment.file
    if not path.exists():
        return Problem("missing", segment.file, f"{segment.file} is missing: {segment.rows} records are lost")
    if path.stat().st_size != segment.bytes or checksum(path) != segment.checksum:
        return Problem(
            "corrupt",
            segment.file,
            f"{segment.file} is damaged ({segment.rows} {segment.name} records): restore it from a backup",
        )
    return None


def _positions(store: SegmentStore, segments: list[Segment]) -> list[Problem]:
    """Each sealed range of positions holds as many records as were sealed, none twice."""
    import numpy as np
    import pyarrow.parquet as pq

    parts = [
        pq.ParquetFile(store.directory / segment.file).read(["position"]).column(0).to_numpy()
        for segment in segments
    ]
    positions = np.sort(np.concatenate(parts)) if parts else np.array([], dtype=np.int64)
    found = []
    twice = positions[1:][positions[1:] == positions[:-1]]
    if len(twice):
        found.append(
            Problem("duplicate", "segments", f"position {twice[0]} is in two segments ({len(twice)} such)")
        )
    start = 0
    for key, value in store.log.scan("sealed"):
        end = int(key)
        low, high = np.searchsorted(positions, [start, end], side="right")
        if high - low != int(value):
            found.append(
                Problem(
                    "count",
                    "segments",
                    f"positions {start + 1} to {end} hold {high - low} records, {int(value)} were sealed",
                )
            )
        start = end
    return found
