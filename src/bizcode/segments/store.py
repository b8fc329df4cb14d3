"""The segments of one store: seal, merge, read, erase, check."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StorageError
from ..log import Log, Reader
from ..record import Stored
from . import doctor, erase, merge, seal
from .catalog import Catalog, Segment, load
from .files import SegmentFile
from .leaves import rebuild

if TYPE_CHECKING:
    from .doctor import Report

__all__ = ["Compacted", "SegmentStore"]

SEAL_ROWS = 100_000
WINDOW = 20_000


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: records sealed, files merged away, bytes on disk after it."""

    sealed: int
    merged: int
    segments: int
    bytes: int


class SegmentStore:
    """Below a store's directory: `segments/<kind>/<name>/<id>.parquet`. Safe for threads and processes."""

    def __init__(self, directory: Path, log: Log, seal_rows: int = SEAL_ROWS) -> None:
        self.directory = directory
        self.log = log
        self.seal_rows = seal_rows
        self._catalog: Catalog | None = None
        self._lock = threading.Lock()
        self._upkeep = threading.RLock()
        self._reading = 0
        self._readers: int | None = None

    # what there is

    def catalog(self, reader: Reader | None = None) -> Catalog:
        """The catalog of now, or of a reader's moment; read again only if it has changed."""
        if reader is None:
            with self.log.snapshot() as reader:
                return self.catalog(reader)
        generation = int(reader.get("settings", "catalog") or 0)
        known = self._catalog
        if known is None or known.generation != generation:
            known = load(reader, generation, int(reader.get("settings", "sealed_to") or 0))
            self._catalog = known
        return known

    def due(self) -> bool:
        """Whether the tail is long enough to be sealed."""
        return self.log.head() - self.catalog().sealed_to >= self.seal_rows

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this is held, by any process, no file is deleted."""
        with self._lock:
            if self._reading == 0:
                self._readers = self._open_lock("readers")
                if self._readers is not None:
                    fcntl.flock(self._readers, fcntl.LOCK_SH)
            self._reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._reading -= 1
                if self._reading == 0 and self._readers is not None:
                    os.close(self._readers)
                    self._readers = None

    def _open_lock(self, name: str) -> int | None:
        try:
            return os.open(self.directory / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None  # a read-only disk: nobody deletes there either

    # upkeep

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """One thread of one process at a time changes the segments."""
        with self._upkeep:
            handle = self._open_lock("upkeep")
            if handle is None:
                raise StorageError(f"{self.directory} can't be written: the directory or disk is read-only")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)

    def seal(self, until: int | None = None) -> int:
        """Move the tail, up to a position, into files; how many records."""
        with self.upkeep():
            return seal.seal(self, until)

    def merge(self, all: bool = False) -> int:
        """Merge small files of one name; how many files went. `all`: whatever their size tier."""
        with self.upkeep():
            merged = merge.merge(self, all)
            self.sweep()
            return merged

    def compact(self) -> Compacted:
        """Seal everything, merge what can be merged, give the log's space back."""
        sealed = self.seal()
        merged = self.merge(all=True)
        self.log.vacuum()
        catalog = self.catalog()
        size = self.log.size() + sum(segment.bytes for segment in catalog.segments)
        return Compacted(sealed, merged, len(catalog.segments), size)

    def sweep(self, patience: float = 0.0) -> int:
        """Delete the files that no catalog names any more, if nobody is reading; how many went."""
        waiting = self.log.scan("garbage")
        if not waiting:
            return 0
        handle = self._open_lock("readers")
        if handle is None:
            return 0
        try:
            if not _exclusive(handle, patience):
                return 0
            for file, _ in waiting:
                (self.directory / file).unlink(missing_ok=True)
        finally:
            os.close(handle)
        with self.log.transaction() as tx:
            for file, _ in waiting:
                tx.delete("garbage", file)
        return len(waiting)

    def erase(self, positions: Iterable[int]) -> int:
        """Rewrite the files that hold these records without them; the old files are really gone after it."""
        with self.upkeep():
            return erase.erase(self, set(positions))

    def doctor(self, mend: bool = False) -> Report:
        """Check every invariant; with mend, repair what can be."""
        with self.upkeep():
            return doctor.examine(self, mend)

    # reading

    def rows(
        self,
        after: int,
        until: int | None = None,
        kinds: Iterable[str] | None = None,
        names: Iterable[str] | None = None,
        batch: int = WINDOW,
    ) -> Iterator[list[Stored]]:
        """Sealed records with after < position <= until, in order of position, in batches; memory is bounded
        by the row groups that a window of positions touches."""
        kinds_ = None if kinds is None else set(kinds)
        names_ = None if names is None else set(names)
        with self.reading():
            catalog = self.catalog()
            end = catalog.sealed_to if until is None else min(until, catalog.sealed_to)
            segments = [
                s
                for s in catalog.segments
                if (kinds_ is None or s.kind in kinds_)
                and (names_ is None or s.name in names_)
                and s.last_position > after
                and s.first_position <= end
            ]
            files: dict[str, SegmentFile] = {}
            low = after + 1
            while low <= end:
                open_ = [s for s in segments if s.last_position >= low]
                if not open_:
                    return
                low = max(low, min(s.first_position for s in open_))
                high = min(end, low + batch - 1)
                found: list[Stored] = []
                for segment in open_:
                    if segment.first_position > high:
                        continue
                    file = files.get(segment.file)
                    if file is None:
                        file = files[segment.file] = SegmentFile(self.directory / segment.file)
                    table = file.rows(low, high)
                    if table is not None:
                        found += rebuild(table, segment.kind, segment.name, self._columns(catalog, segment))
                for segment in segments:
                    if segment.last_position <= high:
                        files.pop(segment.file, None)
                if found:
                    found.sort()
                    yield found
                low = high + 1

    def at(
        self,
        positions: Iterable[int],
        *,
        since: int | None = None,
        until: int | None = None,
        catalog: Catalog | None = None,
    ) -> list[Stored]:
        """The sealed records at these positions, in order. `since` and `until` bound their times, if known."""
        wanted = sorted(set(positions))
        if not wanted:
            return []
        found: list[Stored] = []
        with self.reading():
            catalog = catalog or self.catalog()
            for segment in catalog.segments:
                if segment.last_position < wanted[0] or segment.first_position > wanted[-1]:
                    continue
                if (since is not None and segment.max_time < since) or (
                    until is not None and segment.min_time >= until
                ):
                    continue
                table = SegmentFile(self.directory / segment.file).at(wanted)
                if table is not None:
                    found += rebuild(table, segment.kind, segment.name, self._columns(catalog, segment))
        found.sort()
        return found

    def seen(self, kind: str, name: str, catalog: Catalog) -> list[tuple[tuple[str, ...], str, int, int]]:
        """The sealed properties of a name: (path, type, first seen, last seen), times in microseconds."""
        return [(c.path, c.type, c.first_seen, c.last_seen) for c in catalog.columns(kind, name)]

    def _columns(self, catalog: Catalog, segment: Segment) -> list[Any]:
        return [c for c in catalog.columns(segment.kind, segment.name) if c.column in segment.columns]


def _exclusive(handle: int, patience: float) -> bool:
    """Take the lock that readers share, waiting at most so many seconds."""
    import time

    end = time.monotonic() + patience
    pause = threading.Event()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            pause.wait(0.01)
