"""The sealed history of one store: sealing, reading, merging, erasing, checking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StorageError
from ..log import Log, Reader, Transaction
from ..record import Stored
from .catalog import Catalog, State, load
from .change import DISCARDED, swept
from .place import LocalPlace, Place
from .read import Files
from .readers import Readers, exclusive
from .scan import Scan
from .schema import Schema
from .seal import seal_piece

if TYPE_CHECKING:
    from .doctor import Report

__all__ = ["SEAL_ROWS", "Compacted", "SegmentStore"]

SEAL_ROWS = 100_000
PATIENCE = 30.0
"""Seconds to wait for running queries to end before erased files can be deleted."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: records sealed, files merged into others; then: segments, bytes on disk."""

    sealed: int
    merged: int
    segments: int
    bytes: int


class SegmentStore:
    """The segments of a store's directory, as its log's catalog names them. Safe for threads and processes.

    Args:
        place: where the files lie; a directory means below its `segments`.
        log: its log, which keeps the catalog.
        seal_rows: the tail is due to be sealed when it has this many records.
        homeless: why nothing can be sealed, in a sentence, where there is no place for files that everybody
            who has the log open would find.
    """

    def __init__(
        self, place: Place | Path, log: Log, seal_rows: int = SEAL_ROWS, homeless: str | None = None
    ) -> None:
        self.place: Place = LocalPlace(place) if isinstance(place, Path) else place
        self.directory = self.place.directory
        self.log = log
        self.seal_rows = seal_rows
        self.homeless = homeless
        self._files = Files(self.place)
        self._readers = Readers(log.locks, lambda: State.read(log).epoch)
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None

    # the catalog

    def catalog(self, reader: Reader | None = None) -> Catalog:
        """The catalog of now, or of a reader's moment. Costs one small look-up when nothing changed."""
        state = State.read(self.log if reader is None else reader)
        known = self._catalog
        if known is not None and known.generation == state.generation:
            return known
        if reader is None:
            with self.log.snapshot() as reader:
                return self._load(reader, known)
        return self._load(reader, known)

    def _load(self, reader: Reader, known: Catalog | None) -> Catalog:
        found = load(reader, State.read(reader), known)
        with self._lock:
            if self._catalog is None or self._catalog.generation < found.generation:
                self._catalog = found
                self._files.forget(found)
                self.place.prune(
                    {s.file for s in found.segments} | {file for file, _ in reader.scan(DISCARDED)}
                )
        return found

    def reading(self) -> AbstractContextManager[None]:
        """While held, no file is deleted that a catalog read from now on names."""
        return self._readers.hold()

    def schema(self, kind: str, name: str, catalog: Catalog | None = None) -> Schema:
        """The columns of a name's files, by version."""
        return (catalog or self.catalog()).schema(kind, name)

    def seen(
        self, kind: str, name: str, catalog: Catalog | None = None
    ) -> Iterator[tuple[tuple[str, ...], str, int, int]]:
        """(path, type, first seen, last seen) of all that sealed records of a name hold: leaves of types
        "bool", "int", "double", "text", "json" (a list), and top-level properties that were "null" or "object"."""
        schema = self.schema(kind, name, catalog)
        for column in schema.columns:
            yield column.path, column.type, column.first_seen, column.last_seen
        for held in schema.seen:
            yield (held.key,), held.type, held.first_seen, held.last_seen

    # sealing

    def due(self) -> bool:
        """Whether the tail is long enough to be sealed."""
        return self.homeless is None and self.log.head() - State.read(self.log).to >= self.seal_rows

    def seal(self, until: int | None = None) -> int:
        """Move the tail, up to a position, into files. One at a time over all processes.

        Without a position it does nothing where another process has just done it.

        Returns:
            how many records were sealed.
        Raises:
            StorageError: the disk is full or read-only; the tail is as it was.
        """
        self.log.flush()
        before = State.read(self.log).to
        target = self.log.head() if until is None else min(until, self.log.head())
        if before >= target:
            return 0
        if self.homeless is not None:
            raise StorageError(self.homeless)
        with self._maintenance() as waited:
            if waited and until is None and not self.due():
                return 0
            sealed = self._seal(target)
            self._sweep()
            return sealed

    def _seal(self, target: int) -> int:
        sealed = 0
        while (catalog := self.catalog()).sealed_to < target:
            sealed += seal_piece(self.place, self.log, catalog, target)
        return sealed

    def _maintenance(self) -> AbstractContextManager[bool]:
        """One thread of one process at a time changes the segments; tells whether another was busy."""
        return exclusive(self.log.locks)

    # upkeep

    def merge(self, all: bool = False) -> int:
        """Merge small files of one name, and delete those that nobody reads any more.

        Args:
            all: merge whatever fits one file, not only what is worth it by size.
        Returns:
            how many files were merged into others.
        Raises:
            StorageError: the disk is full or read-only; or a file is damaged (all other names are merged then).
        """
        from .merge import batches, merge_runs, runs

        merged = 0
        damage: dict[tuple[str, str], StorageError] = {}
        with self._maintenance():
            # What was merged may be due with its neighbours then.
            while due := [
                run
                for kind, name in dict.fromkeys((s.kind, s.name) for s in self.catalog().segments)
                if (kind, name) not in damage
                for run in runs(self.catalog().of(kind, name), all)
            ]:
                for batch in batches(due):
                    done, found = merge_runs(self.place, self.log, self.catalog(), batch)
                    merged += sum(map(len, done))
                    damage |= {(error.segment.kind, error.segment.name): error for error in found}
            self._sweep()
        for error in damage.values():
            raise error
        return merged

    def compact(self) -> Compacted:
        """Seal everything, merge what fits, give the log's space back."""
        self.log.flush()
        sealed = self.seal(self.log.head())
        merged = self.merge(all=True)
        self.log.vacuum()
        catalog = self.catalog()
        size = self.log.size() + sum(segment.bytes for segment in catalog.segments)
        return Compacted(sealed, merged, len(catalog.segments), size)

    def erase(self, positions: Iterable[int], also: Callable[[Transaction], None] | None = None) -> int:
        """Take sealed records out of the files, for good.

        Args:
            positions: of the records; those that are not sealed are `also`'s business.
            also: runs in the transaction that changes the catalog, while nothing can be sealed: what must be
                erased from the tail is erased there, so that no seal saves it meanwhile.
        Returns:
            how many sealed records were erased.
        Raises:
            StorageError: the files can't be rewritten (nothing is erased then), or a query that does not end
                still holds the old ones (they are deleted by the next upkeep after it has ended).
        """
        from .erase import erase

        with self._maintenance():
            count = erase(self.place, self.log, self._files, self.catalog(), positions, also)
            end = time.monotonic() + PATIENCE
            pause = threading.Event()
            while left := self._sweep():
                if time.monotonic() >= end:
                    raise StorageError(
                        f"the records are erased, but a query that has run for {PATIENCE:.0f} s still holds "
                        f"{left} of the old files: they are deleted when it has ended, "
                        "at once by `bizcode doctor --mend`"
                    )
                pause.wait(0.01)
        self.catalog()
        return count

    def _sweep(self) -> int:
        return swept(self.place, self.log, self._readers.drained)

    def doctor(self, mend: bool = False) -> Report:
        """Check every invariant: files against the catalog, checksums, records per range of positions.

        Args:
            mend: delete the files that a crash left behind.
        """
        from .doctor import examine

        try:
            with self._maintenance():
                if mend:
                    self._sweep()
                return examine(self.place, self.log, self.catalog(), mend)
        except StorageError:
            if mend:
                raise
            # Nothing can be written here, so nothing is being written either.
            return examine(self.place, self.log, self.catalog(), False)

    # reading

    def rows(
        self,
        after: int = 0,
        until: int | None = None,
        kinds: Iterable[str] | None = None,
        names: Iterable[str] | None = None,
        batch: int = 10_000,
    ) -> Iterator[list[Stored]]:
        """The sealed records with after < position <= until, of the kinds and names if given, in order of
        position, in lists of at most `batch`.

        Streams: memory doesn't grow with the history, and a reader that rests holds no file.
        """
        sealed = self.catalog().sealed_to
        end = sealed if until is None else min(until, sealed)
        wanted = (None if kinds is None else set(kinds), None if names is None else set(names))
        scan = Scan(self._files, end, *wanted)
        while after < end:
            with self.reading():
                found, after = scan.window(self.catalog(), after)
            for start in range(0, len(found), batch):
                yield found[start : start + batch]

    def at(
        self,
        positions: Iterable[int],
        since: int | None = None,
        until: int | None = None,
        catalog: Catalog | None = None,
    ) -> list[Stored]:
        """Those of the positions that are sealed, in order.

        Args:
            since, until: bounds of their times in microseconds, if known: less is looked at.
            catalog: the caller's own, whose files it keeps by `reading`.
        """
        if catalog is not None:
            return self._files.at(catalog.select(None, None, since, until), positions)
        with self.reading():
            return self._files.at(self.catalog().select(None, None, since, until), positions)
