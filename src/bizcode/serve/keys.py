"""Who may do what: write keys for SDKs, tokens for those who look. State space "serve-key".

A write key stands in web pages, so it is no secret, and is kept as it is; it can do nothing but write.
A token is kept as its SHA-256 only, and shown once.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..errors import InvalidValue, NotFound
from ..locate import tenant_directory

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["SCOPES", "Key", "Keys"]

SCOPES = ("write", "read", "admin")
_PREFIX = {"write": "bzw_", "read": "bzr_", "admin": "bza_"}
_SPACE = "serve-key"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `scope` is "write" (only writes), "read" (only reads) or "admin" (reads and acts).
    `text` is the key itself where it is no secret, else its first characters."""

    id: str
    scope: str
    name: str
    tenant: str | None
    created: datetime
    text: str


class Keys:
    """The keys of a store.

    >>> from bizcode import Business
    >>> with Business(":memory:") as biz:
    ...     text = Keys(biz.store).create("write", "website")
    ...     Keys(biz.store).find(text).scope
    'write'
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parsed: dict[bytes, Key] = {}

    def create(self, scope: str, name: str = "default", tenant: str | None = None) -> str:
        """A new key.

        Args:
            scope: "write", "read" or "admin".
            name: what it is for.
            tenant: whose data it reaches; None: the business's own.
        Returns:
            The key's text; a token's can't be had again.
        Raises:
            InvalidValue: an unknown scope. InvalidName: a blank name or tenant.
        """
        if scope not in SCOPES:
            raise InvalidValue(f"a key's scope is one of {', '.join(SCOPES)}, not {scope!r}")
        name = values.name(name, "a key")
        tenant_directory(self._store.directory, tenant)
        text = _PREFIX[scope] + secrets.token_urlsafe(24)
        made = {
            "scope": scope,
            "name": name,
            "tenant": tenant,
            "created": self._store.now(),
            "text": text if scope == "write" else text[:8] + "…",
        }
        with self._store.log.transaction() as tx:
            tx.put(_SPACE, _hash(text), orjson.dumps(made))
        return text

    def list(self) -> list[Key]:
        """All keys, the oldest first."""
        found = [_key(id, kept) for id, kept in self._store.log.scan(_SPACE)]
        return sorted(found, key=lambda key: (key.created, key.id))

    def revoke(self, key: str) -> None:
        """Take a key back, by its text, or by the first 12 or more characters of its id. Raises NotFound."""
        with self._store.log.transaction() as tx:
            if tx.delete(_SPACE, _hash(key)):
                return
            found = [id for id, _ in tx.scan(_SPACE, key)] if len(key) >= 12 else []
            if len(found) != 1:
                raise NotFound("there is no key of that text or id")
            tx.delete(_SPACE, found[0])

    def find(self, text: str) -> Key | None:
        """The key of that text, None if there is none."""
        return self.by_id(_hash(text))

    def by_id(self, id: str) -> Key | None:
        """The key of that id, None if there is none."""
        kept = self._store.log.cached(_SPACE).get(id)
        if kept is None:
            return None
        key = self._parsed.get(kept)
        if key is None:
            if len(self._parsed) > 1_000:
                self._parsed.clear()
            key = self._parsed[kept] = _key(id, kept)
        return key


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _key(id: str, kept: bytes) -> Key:
    made: dict[str, Any] = orjson.loads(kept)
    return Key(
        id, made["scope"], made["name"], made["tenant"], when.to_datetime(made["created"]), made["text"]
    )
