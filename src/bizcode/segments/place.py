"""Where the files of sealed history lie: in a directory, or in a bucket with a cache of it here.

Files never change once they are named by the catalog, so a copy is as good as the original for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import InvalidValue
from . import files

__all__ = ["LocalPlace", "Place", "check_url", "place_at"]

OPTIONS = ("region", "endpoint_override", "scheme")
"""What a bucket's URL may say after a question mark."""


class Place(Protocol):
    """Files by their names relative to the store, "segments/<kind>/<name>/<id>.parquet"."""

    directory: Path
    """Files are written and read below it."""
    shown: str
    """What it is called in messages."""

    def local(self, file: str) -> Path:
        """A file to be read. Raises OSError if it isn't there."""
        ...

    def fetch(self, names: Iterable[str]) -> None:
        """Have files at hand, several at a time where that is quicker. Raises OSError."""
        ...

    def origin(self, file: str) -> tuple[str, ...]:
        """Where another machine can have a file from: the URL and the file's name in it; empty where it lies under
        the same path for all."""
        ...

    def publish(self, file: str) -> None:
        """Show a file that was written here to everybody. Raises OSError, and then nobody sees it."""
        ...

    def remove(self, file: str) -> bool:
        """Delete a file for everybody; False if it was gone already."""
        ...

    def size(self, file: str) -> int | None:
        """Bytes of the original, None if there is none."""
        ...

    def fresh(self, file: str) -> Path:
        """The original, whatever copies there are. Raises OSError."""
        ...

    def names(self) -> Iterator[str]:
        """Every file of the place, in order, named by the catalog or not."""
        ...

    def prune(self, known: set[str]) -> None:
        """Drop copies of files that nothing names any more."""
        ...


class LocalPlace:
    """A directory: the store's own, or one that several machines see."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shown = str(directory / files.ROOT)

    def local(self, file: str) -> Path:
        return self.directory / file

    def fetch(self, names: Iterable[str]) -> None:
        return

    def origin(self, file: str) -> tuple[str, ...]:
        return ()

    def publish(self, file: str) -> None:
        return

    def remove(self, file: str) -> bool:
        return files.remove(self.directory / file)

    def size(self, file: str) -> int | None:
        path = self.directory / file
        return path.stat().st_size if path.exists() else None

    def fresh(self, file: str) -> Path:
        return self.directory / file

    def names(self) -> Iterator[str]:
        root = self.directory / files.ROOT
        for path in sorted(root.rglob("*")) if root.exists() else []:
            if not path.is_dir():
                yield path.relative_to(self.directory).as_posix()

    def prune(self, known: set[str]) -> None:
        return


def check_url(url: str) -> str:
    """A URL of segments as it is kept. Raises InvalidValue for one that can't be used.

    >>> check_url("s3://acme/events/")
    's3://acme/events'
    """
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return url.rstrip("/")
    if parts.scheme == "s3" and parts.hostname:
        if parts.username or parts.password:
            raise InvalidValue(
                f"the keys of s3://{parts.hostname} don't belong in its URL, which is kept in the store: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        unknown = dict(parse_qsl(parts.query)).keys() - set(OPTIONS)
        if unknown:
            raise InvalidValue(f"a bucket's URL takes {', '.join(OPTIONS)}, not {', '.join(sorted(unknown))}")
        return url.rstrip("/")
    raise InvalidValue(f'segments lie at "s3://bucket/prefix" or "file:///a/directory", not at {url!r}')


def place_at(url: str, store_id: str, cache: Path) -> Place:
    """The place of a store's segments by a URL, below which each store has a part of its own.

    Args:
        cache: a local directory for copies of what lies in a bucket.
    Raises:
        StorageError: the bucket can't be used.
    """
    if url.startswith("file:"):
        return LocalPlace(Path(unquote(urlsplit(url).path)) / store_id)
    from .bucket import BucketPlace

    return BucketPlace(url, store_id, cache)
