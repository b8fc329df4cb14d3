"""Segments in object storage, through Arrow's S3 file system, with a cache of files that were asked for.

A file is written in the cache, uploaded whole, and then named by the catalog: nobody sees half of one. The
cache can be deleted while no process has the store open.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..errors import StorageError
from . import files

__all__ = ["BucketPlace", "system_of"]

AT_ONCE = 8
"""Downloads at the same time."""

ATTEMPTS = 4
"""So often each request is tried."""

WAIT = 5
"""Seconds to wait for a connection."""

YOUNG = 600.0
"""Seconds that a file in the cache may be on its way into the catalog."""

_CHUNK = 4 * 2**20


class BucketPlace:
    """Implements `Place`.

    Args:
        url: `s3://bucket/prefix`, with `?region=`, `endpoint_override=`, `scheme=` where they are needed.
        store_id: the part of the prefix that is this store's.
        cache: the directory of the copies.
    Raises:
        StorageError: there is no such bucket, or it may not be read.
    """

    def __init__(self, url: str, store_id: str, cache: Path) -> None:
        self.directory = cache
        self._url = url
        address = url.partition("?")[0]
        self.shown = f"{address.rstrip('/')}/{store_id}"
        self._root = self.shown.removeprefix("s3://")
        self._opened: tuple[int, Any] | None = None
        try:
            system, root = self._system()
            found = system.get_file_info(root.partition("/")[0])
        except (OSError, ValueError) as error:
            raise StorageError(f"the segments at {address} can't be reached: {_line(error)}") from error
        if not found.type:
            raise StorageError(f"there is no bucket at {address}: create it, or name another")

    def _system(self) -> tuple[Any, str]:
        """Arrow's file system and the path in it; a forked child needs one of its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), system_of(self._url)
        return self._opened[1], self._root

    def local(self, file: str) -> Path:
        path = self.directory / file
        return path if path.exists() else self._download(file, path)

    def fetch(self, names: Iterable[str]) -> None:
        missing = [file for file in names if not (self.directory / file).exists()]
        if len(missing) > 1:
            with ThreadPoolExecutor(min(AT_ONCE, len(missing)), thread_name_prefix="bizcode-fetch") as pool:
                for _ in pool.map(self.local, missing):
                    pass

    def _download(self, file: str, path: Path) -> Path:
        system, root = self._system()
        with (
            system.open_input_stream(f"{root}/{file}") as stream,
            files.new_file(path) as temporary,
            temporary.open("wb") as here,
        ):
            shutil.copyfileobj(stream, here, _CHUNK)
        return path

    def origin(self, file: str) -> tuple[str, ...]:
        return self._url, f"{self._root}/{file}"

    def publish(self, file: str) -> None:
        system, root = self._system()
        # An object appears when it is complete, or not at all.
        with (self.directory / file).open("rb") as here:
            stream = system.open_output_stream(f"{root}/{file}")
            try:
                shutil.copyfileobj(here, stream, _CHUNK)
            except BaseException:
                abort = getattr(stream, "abort", None)
                if abort is not None:
                    abort()
                raise
            stream.close()

    def remove(self, file: str) -> bool:
        files.remove(self.directory / file)
        system, root = self._system()
        if not system.get_file_info(f"{root}/{file}").type:
            return False
        system.delete_file(f"{root}/{file}")
        return True

    def size(self, file: str) -> int | None:
        system, root = self._system()
        return system.get_file_info(f"{root}/{file}").size

    def fresh(self, file: str) -> Path:
        return self._download(file, self.directory / file)

    def names(self) -> Iterator[str]:
        from pyarrow import fs

        system, root = self._system()
        selector = fs.FileSelector(f"{root}/{files.ROOT}", recursive=True, allow_not_found=True)
        for found in sorted(system.get_file_info(selector), key=lambda info: info.path):
            if found.is_file:
                yield found.path.removeprefix(f"{root}/")

    def prune(self, known: set[str]) -> None:
        root = self.directory / files.ROOT
        if not root.exists():
            return
        now = time.time()
        for path in root.rglob("*.parquet*"):
            file = path.relative_to(self.directory).as_posix()
            if file not in known and now - path.stat().st_mtime > YOUNG:
                files.remove(path)


def system_of(url: str) -> Any:
    """Arrow's file system for a bucket's URL; the keys are those of this machine."""
    from pyarrow import fs

    retry = fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    options = dict(parse_qsl(url.partition("?")[2]))
    return fs.S3FileSystem(**options, connect_timeout=WAIT, retry_strategy=retry)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
