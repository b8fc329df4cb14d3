"""Records that a handler could not take, kept until they are retried or discarded. State space "dead"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..awaited import DONE, Done
from ..errors import InvalidQuery, NotFound
from ..log import Transaction
from ..query.base import Lazy

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["DeadLetter", "DeadLetters", "bury"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that a consumer gave up on: `error` is the last one's text, `record` the record itself
    (None if it has been erased; for a message of a notifier or job, what was to be done)."""

    id: str
    consumer: str
    error: str
    attempts: int
    timestamp: datetime
    position: int | None
    record: Any


def bury(
    tx: Transaction,
    consumer: str,
    position: int | None,
    error: BaseException,
    attempts: int,
    now: int,
    data: Any = None,
    key: str | None = None,
    again: tuple[str, str, Any] | None = None,
    stage: dict[str, Any] | None = None,
) -> str:
    """Keep a dead letter in the caller's transaction; its id. `again` is the state that a retry sets, as
    (space, key, value), None to delete it; `stage` where in a stream it failed; without either what has no
    position goes back to the outbox."""
    id = f"{consumer}:{position if key is None else key}"
    value = {
        "consumer": consumer,
        "position": position,
        "error": f"{type(error).__name__}: {error}",
        "attempts": attempts,
        "time": now,
        "data": data,
        "due": False,
        "again": again,
        "stage": stage,
    }
    tx.put("dead", id, orjson.dumps(value, default=str))
    return id


class DeadLetters:
    """`biz.dead_letters`: list, retry, discard."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, consumer: str | None = None) -> Lazy[list[DeadLetter]]:
        """All of them, or those of one consumer or stream, the oldest first. One to be retried stands there until it went well."""
        return Lazy(lambda: self._list(consumer), "dead letters")

    def _list(self, consumer: str | None) -> list[DeadLetter]:
        found = []
        for id, value in self._store.log.scan("dead"):
            kept = orjson.loads(value)
            if consumer is not None and kept["consumer"] not in (consumer, f"stream:{consumer}"):
                continue
            found.append((kept["time"], self._letter(id, kept)))
        return [letter for _, letter in sorted(found, key=lambda pair: (pair[0], pair[1].position or 0))]

    def _letter(self, id: str, kept: dict[str, Any]) -> DeadLetter:
        from ..record import record_of

        record = kept["data"]
        if kept["position"] is not None:
            stored = self._store.stored_at(kept["position"])
            record = None if stored is None else record_of(stored, self._store.log.store_id)
        return DeadLetter(
            id,
            kept["consumer"],
            kept["error"],
            kept["attempts"],
            when.to_datetime(kept["time"]),
            kept["position"],
            record,
        )

    def retry(self, id: Any) -> Done:
        """Give it to its handler again, by the worker or the next `drain()`.
        An element of a stream is taken up at the stage, or by the sink, where it failed.
        Raises NotFound."""
        self._change(id, discard=False)
        self._store.consumers.poke()
        return DONE

    def discard(self, id: Any) -> Done:
        """Forget it. Raises NotFound."""
        self._change(id, discard=True)
        return DONE

    def _change(self, id: Any, discard: bool) -> None:
        id = id.id if isinstance(id, DeadLetter) else id
        with self._store.log.transaction() as tx:
            value = tx.get("dead", id) if isinstance(id, str) else None
            if value is None:
                raise NotFound(f"there is no dead letter {id!r}: see biz.dead_letters.list()")
            kept = orjson.loads(value)
            if discard:
                tx.delete("dead", id)
            elif kept.get("again"):
                space, key, data = kept["again"]
                tx.delete("dead", id)
                if data is None:
                    tx.delete(space, key)
                else:
                    tx.put(space, key, orjson.dumps(data))
            elif kept.get("stage"):
                tx.put("dead", id, orjson.dumps({**kept, "due": True}))
            elif kept["consumer"].startswith("stream:"):
                raise InvalidQuery(
                    f"the dead letter {id!r} of {kept['consumer']} doesn't say where it failed: write it again, "
                    "or discard it"
                )
            elif kept["position"] is None:
                # A notifier's message: due again.
                tx.delete("dead", id)
                again = {**kept["data"], "attempts": 0}
                tx.put("outbox", f"{self._store.now():020d}-{id.rpartition('-')[2]}", orjson.dumps(again))
            else:
                tx.put("dead", id, orjson.dumps({**orjson.loads(value), "due": True}))
