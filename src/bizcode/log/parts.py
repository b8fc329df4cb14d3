"""Everything that a log in a directory holds, part by part in order of keys, to be copied elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .reads import Reads, stored
from .schema import COLUMNS

__all__ = ["PARTS", "Bounds", "bounds", "pages"]

PAGE = 10_000
_PAGES = {
    "records": (f"select {COLUMNS} from records where position > ? order by position limit ?", (-1,)),
    "ids": ("select id, position from ids where id > ? order by id limit ?", None),
    "erased": ("select position from erased where position > ? order by position limit ?", (-1,)),
    "kv": (
        "select space, key, value from kv where (space, key) > (?, ?) order by space, key limit ?",
        None,
    ),
}
PARTS = tuple(_PAGES)
"""records, ids, erased, kv."""

_FIRST = {
    "ids": "select id, position from ids order by id limit ?",
    "kv": "select space, key, value from kv order by space, key limit ?",
}
_KEYS = {"records": 1, "ids": 1, "erased": 1, "kv": 2}


class Bounds(NamedTuple):
    """Up to where the log reaches. `erasures`: how often something was erased from segments."""

    head: int
    trimmed: int
    floor: int
    erased: int
    erasures: bytes


def bounds(reads: Reads) -> Bounds:
    """The bounds at a snapshot's moment."""
    meta = dict(reads._execute("select key, value from meta where key <> 'store'").fetchall())
    erased = reads._execute("select count(*) from erased").fetchall()[0][0]
    return Bounds(
        reads.head(), meta["trimmed"], meta["floor"], erased, reads.get("settings", "erased") or b""
    )


def pages(reads: Reads, part: str) -> Iterator[list[Any]]:
    """The rows of a part, in order of its key, as many at a time as are copied at once."""
    statement, start = _PAGES[part]
    found = (
        reads._execute(statement, (*start, PAGE)).fetchall()
        if start is not None
        else reads._execute(_FIRST[part], (PAGE,)).fetchall()
    )
    while found:
        yield stored(found) if part == "records" else found
        found = reads._execute(statement, (*found[-1][: _KEYS[part]], PAGE)).fetchall()
