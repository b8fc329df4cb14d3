"""Where a business is kept: in a directory or at a URL, and where its segments lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .errors import InvalidName

if TYPE_CHECKING:
    from .log import Log

__all__ = ["cache_directory", "is_url", "open_log_at", "tenant_directory"]


def is_url(place: object) -> bool:
    """Whether a store is in PostgreSQL rather than in a directory.

    >>> is_url("postgresql://localhost/acme"), is_url("acme")
    (True, False)
    """
    return isinstance(place, str) and place.startswith(("postgresql://", "postgres://"))


def tenant_directory(root: Path, tenant: str | None) -> Path:
    """Where a tenant's own store lies. Raises InvalidName for a blank tenant."""
    return root if tenant is None else root / "tenants" / quote(_named(tenant), safe="").replace(".", "%2E")


def _named(tenant: str) -> str:
    if not isinstance(tenant, str) or not tenant.strip() or len(tenant) > 200:
        raise InvalidName(f"a tenant is named by text of 1 to 200 characters, not {tenant!r}")
    return tenant


def open_log_at(place: str | Path, tenant: str | None, durability: str) -> Log:
    """The log of a store, by its directory or URL. Raises StorageError."""
    if isinstance(place, str):
        from .log.postgres import open_postgres

        return open_postgres(place, None if tenant is None else _named(tenant), durability)
    from .log.sqlite import open_log

    return open_log(tenant_directory(place, tenant), durability)


def cache_directory(store_id: str) -> Path:
    """Where a store that is kept elsewhere has its local files, all of which can be made again:
    $BIZCODE_CACHE, else bizcode in $XDG_CACHE_HOME, else ~/.cache/bizcode."""
    root = os.environ.get("BIZCODE_CACHE")
    if root:
        return Path(root) / store_id
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bizcode" / store_id
