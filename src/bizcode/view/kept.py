"""Groups of a view as they are kept, so that a new process begins from them and not from all history.

State spaces: "view-kept", key = the view's name: what is kept, as JSON, and up to which position; and
"view-kept:<name>": "g" and a key as JSON -> [records, rounded, states]; "r" -> positions that were taken back.
It is void when the definition, the merges of users below its position or what was erased is not what it was. It is
written a few hundred groups at a time, so that no writer waits for it; until all is written it is marked as void.
"""

from __future__ import annotations

import math
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from ..log import Reader, Transaction
from .groups import Group
from .order import Key, key_of, place_of

if TYPE_CHECKING:
    from ..store import Store

__all__ = [
    "FEW",
    "MANY",
    "WORTH",
    "Kept",
    "can_be_packed",
    "clear",
    "digest",
    "erasing",
    "gone",
    "groups",
    "load",
    "packed",
    "save",
]

SPACE = "view-kept"
FORMAT = 2
MANY, FEW = 200_000, 20_000
"""After so many records groups are kept again: while a process runs, and when it ends."""
WORTH = 50
"""So many records a group are worth keeping it: with fewer, the log is read as fast."""
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a view, but for the groups. `token` tells one writing of it from another; "merges" is a digest
    of the merges of users that it rests on."""

    token: str
    text: str
    position: int
    erased: str
    merges: str
    whole: bool = True
    format: int = FORMAT

    def dump(self) -> bytes:
        """As JSON."""
        return orjson.dumps(self)


def load(reader: Reader, name: str) -> Kept | None:
    """What is kept of a view, None of none, or where its writing was broken off."""
    found = reader.get(SPACE, name)
    fields = {} if found is None else orjson.loads(found)
    return Kept(**fields) if fields.get("format") == FORMAT and fields["whole"] else None


def groups(reader: Reader, name: str) -> Iterator[tuple[Key, int, bool, list[Any]]]:
    """(place, records, rounded, states) of the groups that are kept."""
    after = "g"
    while found := reader.scan(_space(name), "g", after, 10_000):
        for key, value in found:
            yield place_of(tuple(orjson.loads(key[1:]))), *orjson.loads(value)
        after = found[-1][0]


def gone(reader: Reader, name: str) -> frozenset[int]:
    """The positions of records that were taken back."""
    return frozenset(array("q", reader.get(_space(name), "r") or b""))


def digest(merges: Iterable[int]) -> str:
    """Tells some merges of users, by their positions, from others."""
    return blake2b(array("q", sorted(merges)).tobytes(), digest_size=16).hexdigest()


def packed(place: Key, group: Group | None) -> tuple[str, bytes | None]:
    """A group for `save`, None of one that is no more."""
    key = "g" + orjson.dumps(list(key_of(place))).decode()
    return key, None if group is None else orjson.dumps([group.count, group.rounded, group.states])


def can_be_packed(group: Group) -> bool:
    """Whether JSON has all its numbers: sums may be beyond the largest float."""
    return all(
        math.isfinite(part)
        for state in group.states
        for part in (
            state[2] if isinstance(state, list) and len(state) == 3 and isinstance(state[2], list) else ()
        )
        if isinstance(part, float)
    )


def save(
    store: Store,
    name: str,
    made: Kept,
    former: str | None,
    changed: Sequence[tuple[str, bytes | None]],
    gone: bytes,
) -> bool:
    """Keep groups; False where somebody else has kept other ones meanwhile, or nothing can be written.

    Args:
        former: the token of what was kept when the groups that are not among the changed ones were as they are;
            None: all are among them.
    """
    held = None if store.log_readonly else store.log.locks.take(f"{SPACE}:{name}")
    if held is None:
        return False
    try:
        return _saved(store, name, made, former, [*changed, ("r", gone)])
    finally:
        held.release()


def _saved(
    store: Store, name: str, made: Kept, former: str | None, changed: Sequence[tuple[str, bytes | None]]
) -> bool:
    broken = Kept(uuid.uuid4().hex, "", 0, "", "", whole=False).dump()
    with store.log.transaction() as tx:
        known = load(tx, name)
        if former is None:
            if known is not None and known.text == made.text and known.position >= made.position:
                return False
            tx.clear(_space(name))
        elif known is None or known.token != former:
            return False
        tx.put(SPACE, name, broken)
    for n in range(0, len(changed), _CHUNK):
        with store.log.transaction() as tx:
            if tx.get(SPACE, name) != broken:
                return False  # cleared meanwhile: of a user who is forgotten nothing may be written
            for key, value in changed[n : n + _CHUNK]:
                if value is None:
                    tx.delete(_space(name), key)
                else:
                    tx.put(_space(name), key, value)
    with store.log.transaction() as tx:
        if tx.get(SPACE, name) != broken:
            return False
        tx.put(SPACE, name, made.dump())
    return True


def clear(tx: Transaction, name: str) -> None:
    """Keep nothing of a view."""
    tx.delete(SPACE, name)
    tx.clear(_space(name))


def erasing(store: Store, positions: Sequence[int]) -> Callable[[Transaction], None]:
    """For `forget`: groups tell of users, so nothing is kept until they are made anew."""

    def take_out(tx: Transaction) -> None:
        for name, _ in tx.scan(SPACE):
            clear(tx, name)

    return take_out


def _space(name: str) -> str:
    return f"{SPACE}:{name}"
