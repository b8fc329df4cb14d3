"""Whose records they are, which of them count, and how many there may be: merges, retractions, quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from . import when
from .awaited import DONE, Done
from .engine.relation import Column
from .engine.tail import retracted_key
from .errors import InvalidQuery, InvalidValue, NotFound, QuotaExceeded
from .log import Transaction
from .plan.select import Select
from .plan.sql import Parameters
from .query import Lazy
from .record import ENTITY, EVENT, MEASURE, SYSTEM, Draft
from .writer import check_user

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Quota", "identify", "retract", "unidentify"]


def _system(store: Store, name: str, data: dict[str, Any], space: str | None, key: str | None = None) -> Any:
    """A system record, and beside it, in the same transaction, the state that it stands for.
    A key of None is the record's own position."""
    draft, plain = store.writer.draft(SYSTEM, name, data)
    value = orjson.dumps(data)
    unit = store.unit()
    if unit is not None:
        places: list[int] = []
        record = store.writer.write(draft, plain)
        if space is not None:
            at = len(unit.drafts) - 1

            def keep(tx: Transaction) -> None:
                tx.put(space, key if key is not None else f"{places[0]:020d}", value)

            unit.on_append(at, lambda row: places.append(row.position))
            unit.action(keep)
        return record
    with store.log.transaction() as tx:
        row = tx.append([draft])[0]
        if space is not None:
            tx.put(space, key if key is not None else f"{row.position:020d}", value)
    return store.writer.record_at(row.position)


def identify(store: Store, alias: Any, user: Any) -> Any:
    """Merge two ids under the second's name. A merge is a record; state space "merge", key = position."""
    data = {"alias": check_user(alias), "user": check_user(user)}
    if data["alias"] == data["user"]:
        raise InvalidValue(f"identify() takes two different ids, both are {data['user']!r}")
    return _system(store, "identify", data, "merge")


def unidentify(store: Store, alias: Any) -> Any:
    """Undo every merge of an id. Raises NotFound where there is none."""
    alias = check_user(alias)
    draft, plain = store.writer.draft(SYSTEM, "unidentify", {"alias": alias})
    missing = NotFound(f"{alias!r} was not merged into another id")

    def undo(tx: Transaction) -> None:
        gone = [key for key, value in tx.scan("merge") if orjson.loads(value)["alias"] == alias]
        if not gone:
            raise missing
        for key in gone:
            tx.delete("merge", key)

    unit = store.unit()
    if unit is not None:
        merges = [value for _, value in store.log.scan("merge")]
        merges += [draft.data for draft in unit.drafts if (draft.kind, draft.name) == (SYSTEM, "identify")]
        if not any(orjson.loads(merge)["alias"] == alias for merge in merges):
            raise missing
        # Merges of this very transaction are undone too: they are kept by an action that stands before.
        record = store.writer.write(draft, plain)
        unit.action(undo)
        return record
    with store.log.transaction() as tx:
        undo(tx)
        row = tx.append([draft])[0]
    return store.writer.record_at(row.position)


def retract(store: Store, record_id: Any) -> Any:
    """Take an event or measurement back. State space "retracted", key = its position."""
    if hasattr(record_id, "position") and hasattr(record_id, "id"):
        record_id = record_id.id
    if not isinstance(record_id, str) or not record_id.strip():
        raise InvalidValue(f"retract() takes the id of a record, not {record_id!r}")
    position = store.log.position_of(record_id)
    stored = None if position is None else store.stored_at(position)
    if stored is None or position is None:
        raise NotFound(f"there is no record with id {record_id!r}")
    if stored.kind == ENTITY:
        raise InvalidQuery(
            f"{record_id!r} is an entity's event, which can't be retracted: append the opposite"
        )
    if stored.kind not in (EVENT, MEASURE):
        raise InvalidQuery(
            f"{record_id!r} is a {stored.kind} record: only events and measurements can be retracted"
        )
    key = retracted_key(position)
    known = store.log.get("retracted", key)
    if known is not None:
        # In the unit that took it back, and in stores of old, where that stands isn't known.
        return store.writer.record_at(orjson.loads(known)["at"] or position)
    data = {"position": position, "kind": stored.kind, "name": stored.name, "id": record_id}
    draft, plain = store.writer.draft(SYSTEM, "retract", data)
    unit = store.unit()
    if unit is not None:
        at: list[int] = []
        record = store.writer.write(draft, plain)
        unit.put("retracted", key, orjson.dumps({**data, "at": 0}))
        unit.on_append(len(unit.drafts) - 1, lambda row: at.append(row.position))
        unit.action(lambda tx: tx.put("retracted", key, orjson.dumps({**data, "at": at[-1]})))
        return record
    with store.log.transaction() as tx:
        row = tx.append([draft])[0]
        tx.put("retracted", key, orjson.dumps({**data, "at": row.position}))
    return store.writer.record_at(row.position)


class Quota:
    """How much a tenant may store. State: "settings"/"quota" (the limits), "usage" (records by day)."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def set(self, *, events_per_day: int | None = None, bytes: int | None = None) -> Done:
        """Limit what is stored from now on; None lifts a limit.

        Args:
            events_per_day: records per calendar day of the business's timezone, by when they are written;
                on the day of the first quota, what is there with a timestamp of that day counts too.
            bytes: size on disk.
        Raises:
            InvalidValue: a limit that is no whole number of at least 0.
        """
        limits = {"events_per_day": events_per_day, "bytes": bytes}
        for name, limit in limits.items():
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
                raise InvalidValue(f"{name}= takes a whole number of at least 0, not {limit!r}")
        store = self._store
        day, stored = _day(store), _stored_today(store)

        def keep(tx: Transaction) -> None:
            tx.put("settings", "quota", orjson.dumps(limits))
            if tx.get("usage", day) is None:
                tx.put("usage", day, str(stored).encode())

        unit = store.unit()
        if unit is not None:
            unit.action(keep)
            return DONE
        with store.log.transaction() as tx:
            keep(tx)
        return DONE

    def get(self) -> Lazy[dict[str, Any]]:
        """The limits and what is used: keys events_per_day, bytes, events_today, bytes_used."""
        return Lazy(self._get, "quota")

    def _get(self) -> dict[str, Any]:
        store = self._store
        kept = store.log.get("settings", "quota")
        limits = orjson.loads(kept) if kept else {"events_per_day": None, "bytes": None}
        used = store.log.get("usage", _day(store))
        return {**limits, "events_today": int(used or 0), "bytes_used": size(store)}


def _day(store: Store) -> str:
    return when.to_datetime(store.now(), store.tz).date().isoformat()


def _stored_today(store: Store) -> int:
    """Records with a timestamp of the running day, of every kind that a quota counts."""
    today = when.to_datetime(when.bucket(store.now(), "day", store.tz))
    total = 0
    with store.engine.session() as session:
        for kind in (EVENT, MEASURE, ENTITY):
            parameters = Parameters()
            relation = session.relation(
                Select(kind=kind, since=today), {"at": Column("position")}, parameters
            )
            total += session.fetch(f"SELECT count(*) FROM ({relation.sql})", parameters)[0][0]
    return total


def size(store: Store) -> int:
    """Bytes of the store on disk: log and segments."""
    return store.log.size() + sum(s.bytes for s in store.segments.catalog().segments)


def guard(store: Store) -> Any:
    """What looks at every append, inside its transaction, before anything is stored."""

    def check(tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
        kept = tx.cached("settings").get("quota")
        if kept is None:
            return drafts
        limits = orjson.loads(kept)
        counted = [draft for draft in drafts if draft.kind != SYSTEM]
        if not counted:
            return drafts
        if limits["events_per_day"] is not None:
            day = _day(store)
            fresh = sum(1 for d in counted if d.id is None or tx.position_of(d.id) is None)
            used = int(tx.get("usage", day) or 0)
            if used + fresh > limits["events_per_day"]:
                raise QuotaExceeded(
                    f"{fresh} more would make {used + fresh} records today, the quota is "
                    f"{limits['events_per_day']} a day: nothing was stored"
                )
            if used == 0:
                tx.clear("usage")
            tx.put("usage", day, str(used + fresh).encode())
        if limits["bytes"] is not None:
            used = size(store) + sum(len(draft.data) for draft in counted)
            if used > limits["bytes"]:
                raise QuotaExceeded(
                    f"the store would take {used} bytes, the quota is {limits['bytes']}: nothing was stored"
                )
        return drafts

    return check
