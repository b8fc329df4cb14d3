"""What a transaction has retracted and merged and not committed, for the questions that it asks itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from ..record import SYSTEM, Stored
from .shared import SharedTable
from .tail import MERGES, Tail, View

__all__ = ["seen_from_inside"]

_numbers = itertools.count(1)


def seen_from_inside(tail: Tail, view: View, rows: Sequence[Stored], cursor: Any) -> View:
    """A view with the retractions and merges among a transaction's records.

    Args:
        tail: what the view is of.
        view: what others see.
        rows: the transaction's records.
        cursor: where the merges go, as a temporary table.
    """
    retracted = {key: set(positions) for key, positions in view.retracted.items()}
    merges = []
    for row in rows:
        if row.kind == SYSTEM and row.name == "retract":
            data = orjson.loads(row.data)
            retracted.setdefault((data["kind"], data["name"]), set()).add(data["position"])
        elif row.kind == SYSTEM and row.name in ("identify", "unidentify"):
            merges.append(row)
    view = replace(view, retracted={key: frozenset(found) for key, found in retracted.items()})
    if not merges:
        return view
    identity = tail.identity()
    for row in merges:
        data = orjson.loads(row.data)
        if row.name == "identify":
            identity.merge(data["alias"], data["user"], row.position)
        else:
            identity.undo(data["alias"], row.position)
    table = SharedTable(cursor, "pending_merged", MERGES, temporary=True)
    cursor.execute(f"INSERT INTO {table.name} SELECT * FROM {view.merges}")
    identity.flush(cursor, table)
    return replace(view, merged=bool(identity), merges=table.name, identity=(-1, next(_numbers)))
