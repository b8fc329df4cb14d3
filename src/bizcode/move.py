"""Copies a business from its directory into PostgreSQL: the same ids, positions, state and files."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from .errors import InvalidValue, StorageError
from .locate import cache_directory, is_url, tenant_directory
from .log.reads import Reads
from .segments import Segment, SegmentStore
from .segments.files import checksum, explained, new_file
from .segments.place import LocalPlace, Place, check_url, place_at

__all__ = ["Moved", "move"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was copied, of one tenant or of the business itself (None), and compared afterwards: records of the
    log, entries of state, files of sealed history, their bytes."""

    tenant: str | None
    records: int
    state: int
    files: int
    bytes: int


def move(
    source: str | os.PathLike[str],
    target: str,
    *,
    segments: str | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> list[Moved]:
    """Copy a business and all its tenants. The source stays as it is. Broken off and begun again it goes on
    where it was; nobody can open the target before it is complete and was compared, row by row and file by file.

    Args:
        source: the business's directory. Nothing should write to it meanwhile.
        target: `postgresql://...`, with an empty schema.
        segments: where the sealed history goes, "s3://bucket/prefix" or "file:///a/directory".
        progress: called with what is copied ("records", "kv", "files", ...) and how many of it so far.
    Returns:
        what was copied, one entry per tenant.
    Raises:
        StorageError: the source was written to meanwhile; the target is not empty; what arrived differs.
        InvalidValue: there is sealed history, but no place for it.
    """
    if not is_url(target):
        raise InvalidValue(f'a business moves to "postgresql://...", not to {target!r}')
    if segments is not None:
        segments = check_url(segments)
    root = Path(source)
    if not (root / "log.db").exists():
        raise StorageError(f"{root} holds no business to move")
    tenants = [None, *(sorted(_tenants(root)))]
    return [_move(root, tenant, target, segments, progress or _silent) for tenant in tenants]


def _silent(*_: object) -> None:
    return


def _tenants(root: Path) -> Iterator[str]:
    for path in (root / "tenants").glob("*"):
        if (path / "log.db").exists():
            yield unquote(path.name)


def _move(
    root: Path, tenant: str | None, target: str, segments: str | None, progress: Callable[[str, int], None]
) -> Moved:
    from .log.parts import PARTS, bounds, pages
    from .log.postgres.receive import Receiver
    from .log.sqlite import open_log

    directory = tenant_directory(root, tenant)
    log = open_log(directory)
    try:
        log.flush()
        held = SegmentStore(_place(log.cached("settings"), log.store_id, directory), log)
        if segments and segments == log.cached("settings").get("segments", b"").decode():
            raise InvalidValue(
                f"the sealed history of {directory} lies at {segments} already: name another place"
            )
        changes = log.changes()
        with held.reading(), log.snapshot() as reader, Receiver(target, tenant) as receiver:
            assert isinstance(reader, Reads)
            catalog = held.catalog(reader)
            limits = bounds(reader)
            if catalog.segments and segments is None:
                raise InvalidValue(
                    f"{directory} has {len(catalog.segments)} files of sealed history: say where they go, by "
                    'segments="s3://bucket/prefix" or "file:///a/directory" that all machines see'
                )
            state = orjson.dumps([limits.trimmed, limits.erased, limits.erasures.decode()]).decode()
            done = f"{state} {limits.head}"
            size = sum(segment.bytes for segment in catalog.segments)
            if not receiver.begin(log.store_id, state, done):
                counts = {part: sum(1 for _ in receiver.rows(part)) for part in ("records", "kv")}
                return Moved(tenant, counts["records"], counts["kv"], len(catalog.segments), size)
            place = (
                None if segments is None else place_at(segments, log.store_id, cache_directory(log.store_id))
            )
            for n, segment in enumerate(catalog.segments, 1):
                assert place is not None
                _copy_file(held.place, place, segment)
                progress("files", n)
            if place is not None:
                _clear_files(place, {segment.file for segment in catalog.segments})
            receiver.clear_state()
            counts = {}
            for part in PARTS:
                counts[part] = _copy_part(part, pages(reader, part), receiver, progress)
            if log.changes() != changes:
                raise StorageError(
                    f"{directory} was written to during the move: end what writes to it and run the move again, "
                    "it goes on where it was"
                )
            settings = {} if segments is None else {"segments": segments.encode()}
            receiver.finish(done, limits.trimmed, max(limits.floor, limits.head), settings)
            return Moved(tenant, counts["records"], counts["kv"], len(catalog.segments), size)
    finally:
        log.close()


def _clear_files(place: Place, known: set[str]) -> None:
    """Delete what an earlier attempt has brought, of a state that is past."""
    with explained(f"clearing {place.shown}", place.shown):
        for file in list(place.names()):
            if file not in known:
                place.remove(file)


def _place(settings: Any, store_id: str, directory: Path) -> Place:
    url = settings.get("segments", b"").decode()
    return place_at(url, store_id, cache_directory(store_id)) if url else LocalPlace(directory)


def _copy_part(
    part: str, pages: Iterable[list[Any]], receiver: Any, progress: Callable[[str, int], None]
) -> int:
    """Copy the rows that are not there yet, then read all of them back and compare."""
    last = receiver.last(part)
    here = _Digest()
    for page in pages:
        here.add(page)
        rows = page if last is None else [row for row in page if row[: len(last)] > last]
        if rows:
            receiver.take(part, rows)
        progress(part, here.count)
    there = _Digest()
    there.add(receiver.rows(part))
    if (here.count, here.text) != (there.count, there.text):
        raise StorageError(
            f"{receiver.shown} holds other {part} than were sent ({there.count}, not {here.count}): drop its "
            "schema and run the move again"
        )
    return here.count


class _Digest:
    """Count and checksum of rows, in order."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self.count += 1
            plain = [value.hex() if isinstance(value, bytes) else value for value in row]
            self._hash.update(orjson.dumps(plain) + b"\n")

    @property
    def text(self) -> str:
        return self._hash.hexdigest()


def _copy_file(source: Place, target: Place, segment: Segment) -> None:
    """Copy a file unless it is there, and compare its checksum where it is now."""
    with explained(f"copying {segment.file} to {target.shown}", target.shown):
        if target.size(segment.file) != segment.bytes:
            here = source.local(segment.file)
            if checksum(here) != segment.checksum:
                raise StorageError(f"{here} is damaged: `bizcode doctor` says more; nothing was moved of it")
            with new_file(target.directory / segment.file) as temporary:
                shutil.copyfile(here, temporary)
            target.publish(segment.file)
        if checksum(target.fresh(segment.file)) != segment.checksum:
            target.remove(segment.file)
            raise StorageError(f"{segment.file} arrived damaged at {target.shown}: run the move again")
