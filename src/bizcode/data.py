"""`biz.data`: values under keys, with an expiry, watched by anyone. A dictionary that lasts.

State spaces: "data" (the values), "data-expiry" (which expire when). Each change is a record, so watchers
in other processes see it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import orjson

from . import values, when
from .awaited import DONE, Done
from .consume import Pattern, Subscription
from .errors import InvalidName, InvalidValue
from .query import Lazy
from .record import SYSTEM, Stored

if TYPE_CHECKING:
    from .log import Transaction
    from .store import Store

__all__ = ["Change", "Data"]


@dataclass(frozen=True, slots=True)
class Change:
    """One key's change: None stands for no value before, or none after (deleted or expired)."""

    key: str
    before: Any
    after: Any


class Data:
    """`biz.data.set("k", value, ttl="1h")`, `biz.data["k"]`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.consumers.tickers(_Expiry(self))

    # one key

    def set(self, key: str, value: Any, ttl: Any = None) -> Done:
        """Keep a value under a key.

        Args:
            ttl: a duration after which it is gone, by the business's clock.
        Raises:
            InvalidName: a blank key. InvalidValue: a value that can't be stored. InvalidTime.
        """
        key = _key(key)
        plain = values.plain(value, self._store.tz, f"data[{key!r}]")
        expires = None
        if ttl is not None:
            expires = when.shift(self._store.now(), when.duration(ttl), self._store.tz)
        self._write(key, orjson.dumps({"value": plain, "expires": expires}), plain, expires)
        return DONE

    def _write(self, key: str, kept: bytes | None, after: Any, expires: int | None) -> bool:
        store = self._store
        unit = store.unit()
        if unit is not None:
            before = self._alive(unit.get("data", key))
            unit.put("data", key, kept)
            if expires is not None:
                unit.put("data-expiry", f"{expires:020d}:{key}", b"")
            draft, _ = store.writer.draft(SYSTEM, "data", {"key": key, "before": before, "after": after})
            unit.append(draft)
            return before is not None
        with store.log.transaction() as tx:
            return self._put(tx, key, kept, after, expires)

    def _put(self, tx: Transaction, key: str, kept: bytes | None, after: Any, expires: int | None) -> bool:
        found = tx.get("data", key)
        before = self._alive(found)
        if kept is None:
            tx.delete("data", key)
        else:
            tx.put("data", key, kept)
        if expires is not None:
            tx.put("data-expiry", f"{expires:020d}:{key}", b"")
        there = self._present(found)
        if kept is not None or there:
            change = {"key": key, "before": before, "after": after}
            draft, _ = self._store.writer.draft(SYSTEM, "data", change)
            tx.append([draft])
        return there

    def _present(self, kept: bytes | None) -> bool:
        if kept is None:
            return False
        expires = orjson.loads(kept)["expires"]
        return expires is None or expires > self._store.now()

    def _alive(self, kept: bytes | None) -> Any:
        return orjson.loads(kept)["value"] if kept is not None and self._present(kept) else None

    def _kept(self, key: str) -> bytes | None:
        unit = self._store.unit()
        return self._store.log.get("data", key) if unit is None else unit.get("data", key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, `default` if there is none."""
        kept = self._kept(_key(key))
        return self._alive(kept) if self._present(kept) else default

    def has(self, key: str) -> bool:
        """Whether there is a value under a key, be it None."""
        return self._present(self._kept(_key(key)))

    def delete(self, key: str) -> bool:
        """Take a key away; True if it was there."""
        key = _key(key)
        if self._store.unit() is not None:
            there = self.has(key)
            if there:
                self._write(key, None, None, None)
            return there
        return self._write(key, None, None, None)

    def __getitem__(self, key: str) -> Any:
        kept = self._kept(_key(key))
        if not self._present(kept):
            raise KeyError(key)
        return self._alive(kept)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.has(key)

    # many

    def keys(self, pattern: str = "*") -> Lazy[list[str]]:
        """The keys that match a pattern (`*` any text, `?` one character), in order."""
        _pattern(pattern)
        return Lazy(lambda: list(self._matching(pattern)), "key")

    def list(self, pattern: str = "*") -> Lazy[dict[str, Any]]:
        """The keys that match a pattern, with their values."""
        _pattern(pattern)
        return Lazy(lambda: self._matching(pattern), "value")

    def _matching(self, pattern: str) -> dict[str, Any]:
        prefix = _pattern(pattern).split("*")[0].split("?")[0]
        matching = pattern.replace("[", "[[]")
        found = dict(self._store.log.scan("data", prefix))
        unit = self._store.unit()
        for key, kept in (unit.written("data") if unit is not None else {}).items():
            if kept is None:
                found.pop(key, None)
            else:
                found[key] = kept
        return {
            key: self._alive(kept)
            for key, kept in sorted(found.items())
            if fnmatchcase(key, matching) and self._present(kept)
        }

    def watch(
        self, fn: Callable[[Change], Any], pattern: str = "*", *, name: str | None = None
    ) -> Subscription:
        """Call fn(Change(key, before, after)) for each change from now on, by any process, expiry included.

        Args:
            pattern: which keys.
            name: makes it durable.
        """
        if not callable(fn):
            raise InvalidValue(f"watch() takes a function, not {fn!r}")

        matching = _pattern(pattern).replace("[", "[[]")
        if name is not None:
            name = values.name(name, "a watch")

        def test(row: Stored) -> bool:
            return fnmatchcase(orjson.loads(row.data)["key"], matching)

        def deliver(record: Any) -> Any:
            return fn(Change(**record.data))

        consumers = self._store.consumers
        id = name or f"watch-{uuid.uuid4().hex[:12]}"
        consumers.follow(
            id,
            Pattern(frozenset((SYSTEM,)), frozenset(("data",)), test),
            function=deliver,
            durable=name is not None,
        )
        return Subscription(id, lambda: consumers.unregister(id))

    def __repr__(self) -> str:
        return "biz.data"


class _Expiry:
    """Takes away what has expired."""

    name = "data-expiry"

    def __init__(self, data: Data) -> None:
        self._data = data

    def due(self) -> int | None:
        found = self._data._store.log.scan("data-expiry", limit=1)
        return int(found[0][0].split(":", 1)[0]) if found else None

    def tick(self, now: int) -> None:
        store = self._data._store
        with store.log.transaction() as tx:
            for entry, _ in tx.scan("data-expiry", limit=1_000):
                expires, _, key = entry.partition(":")
                if int(expires) > now:
                    break
                tx.delete("data-expiry", entry)
                kept = tx.get("data", key)
                if kept is None:
                    continue
                held = orjson.loads(kept)
                if held["expires"] == int(expires):
                    tx.delete("data", key)
                    change = {"key": key, "before": held["value"], "after": None}
                    draft, _ = store.writer.draft(SYSTEM, "data", change)
                    tx.append([draft])


def _pattern(pattern: Any) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidName(f"a pattern is text like 'user:*', not {pattern!r}")
    return pattern


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.strip() or len(key) > 1_000:
        raise InvalidName(f"a key is text of 1 to 1000 characters that is not blank, not {key!r}")
    return key
