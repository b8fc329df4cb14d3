"""A user's data erased for good: from the tail, the segments, the merges and every file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from .awaited import AwaitedInt
from .engine.identity import Identity
from .errors import InvalidQuery
from .log import Transaction
from .record import ENTITY, EVENT, MEASURE, SYSTEM
from .writer import check_user

if TYPE_CHECKING:
    from .store import Store

__all__ = ["forget"]


def forget(store: Store, user: str) -> AwaitedInt:
    """Erase every record of a user and of the ids merged with it, and the events of the entity that is that user:
    of `Customer("u1")` and `User("u1")`, by what the business's identities are called.

    What is kept is one record that something was erased (of how many records, not whose). Consumers are
    told by it and rebuild what they derived. Raises InvalidQuery inside `biz.do`; NotFound never: an
    unknown user has 0 records.
    """
    if store.unit() is not None:
        raise InvalidQuery("forget() can't be undone, so it can't stand inside biz.do: call it outside")
    user = check_user(user)
    store.log.flush()
    identity = Identity()
    merges = store.log.scan("merge")
    identity.load(merges)
    name = identity.user(user)
    ids = {user, name} | {id for pair in identity.edges() for id in pair if identity.user(id) == name}
    positions = _positions(store, ids, _types(store))
    gone = [key for key, value in merges if ids & set(_ids(value))]
    entities = sorted({row.entity for row in store.log.at(positions) if row.entity is not None})
    prepared = [prepare(positions) for prepare in store.erasing]
    draft, _ = store.writer.draft(SYSTEM, "forget", {"records": len(positions)})

    def erase(tx: Transaction) -> None:
        for also in prepared:
            if also is not None:
                also(tx)
        tx.erase(positions)
        for key in gone:
            tx.delete("merge", key)
        for entity in entities:
            tx.clear("snapshot", entity)
        for id in ids:
            tx.delete("activation", id)
            for experiment in tx.cached("define:experiment"):
                tx.delete(f"exposure:{experiment}", id)
        for position in positions:
            tx.delete("retracted", f"{position:020d}")
        tx.append([draft])

    # In one transaction with the segments' part: nothing is sealed between the two.
    try:
        store.segments.erase(positions, erase)
    finally:
        store.log.vacuum()
    for rebuild in list(store.derived.values()):
        rebuild()
    store.log.vacuum()
    return AwaitedInt(len(positions))


def _types(store: Store) -> list[str]:
    """The types of entities that are users themselves: `user_id` names a User, `customer_id` a Customer."""
    named = [re.sub("(_id|Id)$", "", name) for name in store.identity if re.search("(_id|Id)$", name)]
    return sorted({"".join(part[:1].upper() + part[1:] for part in name.split("_")) for name in named})


def _ids(merge: bytes) -> tuple[str, str]:
    data = orjson.loads(merge)
    return data["alias"], data["user"]


def _positions(store: Store, ids: set[str], types: list[str]) -> list[int]:
    """Every record that is of one of the ids, or that names one in a merge, or that happened to an entity of one
    of the types with such an id."""
    from .engine import Column
    from .plan.condition import And, Compare, Or
    from .plan.fields import Field
    from .plan.select import Select
    from .plan.sql import Parameters

    wanted = tuple(sorted(ids))
    found: set[int] = set()
    columns = {"position": Column("position")}
    with store.engine.session() as session:
        for kind in (EVENT, MEASURE, ENTITY, SYSTEM):
            parameters = Parameters()
            if kind == SYSTEM:
                where = Or(
                    (
                        *(
                            Compare(Field((name,), raw=True), "in", wanted)
                            for name in ("alias", "user", "id")
                        ),
                        Compare(Field(("user",), own=True), "in", wanted),
                    )
                )
                where = And((where,))
            else:
                where = And()
            relation = session.relation(
                Select(kind=kind, where=where), {**columns, "who": Column("user", name="raw")}, parameters
            )
            mine = f"who IN (SELECT unnest({parameters.add(list(wanted))}::VARCHAR[]))"
            sql = f"SELECT position FROM ({relation.sql})" + (f" WHERE {mine}" if kind != SYSTEM else "")
            if kind == SYSTEM:
                parameters.values.pop()
            found |= {row[0] for row in session.fetch(sql, parameters)}
        own = Compare(Field(("entity",), own=True), "in", wanted)
        parameters = Parameters()
        relation = session.relation(
            Select(kind=ENTITY, where=And((own,))), {**columns, "name": Column("name")}, parameters
        )
        found |= {
            position
            for position, name in session.fetch(f"SELECT position, name FROM ({relation.sql})", parameters)
            if name.partition(".")[0] in types
        }
        for (kind, _), retracted in session.view.retracted.items():
            if kind in (EVENT, MEASURE):
                rows = [*store.log.at(retracted), *store.segments.at(retracted)]
                found |= {row.position for row in rows if row.user in ids}
    return sorted(found)
