"""Which ids are one user: merges replayed in order, kept as alias -> user beside the tail."""

from __future__ import annotations

from typing import Any

import orjson

from .shared import SharedTable

__all__ = ["Identity"]


class Identity:
    """Groups of ids. `merge(alias, user)` makes them one, under the name of the user's group;
    where both are one already, under `user` itself."""

    def __init__(self) -> None:
        self._edges: dict[int, tuple[str, str]] = {}
        self._name: dict[str, str] = {}
        self._members: dict[str, set[str]] = {}
        self._dirty: set[str] = set()
        self._reset = False
        self.joined = 0
        """How often ids were joined."""
        self.replayed = 0
        """How often all was begun again: after that, an id may count as less than it did."""

    def __bool__(self) -> bool:
        return bool(self._edges)

    def user(self, id: str) -> str:
        """The name under which an id counts."""
        return self._name.get(id, id)

    def positions(self) -> list[int]:
        """Where the merges stand in the log."""
        return list(self._edges)

    def names(self) -> dict[str, str]:
        """The name of each id that was ever merged."""
        return dict(self._name)

    def members(self, name: str | None) -> set[str | None]:
        """The ids that count under a name, itself among them."""
        return {name} if name is None else {name, *self._members.get(name, ())}

    def edges(self) -> list[tuple[str, str]]:
        """Every merge as (alias, user)."""
        return list(self._edges.values())

    def copy(self) -> Identity:
        """The same merges, to go on with apart."""
        made = Identity()
        # Sets of members are replaced and never changed.
        made._edges, made._name, made._members = dict(self._edges), dict(self._name), dict(self._members)
        return made

    def load(self, pairs: list[tuple[str, bytes]]) -> None:
        """Begin again from the kept merges: the state space "merge", key = position."""
        self._edges = {}
        for key, value in pairs:
            data = orjson.loads(value)
            self._edges[int(key)] = (data["alias"], data["user"])
        self._replay()

    def merge(self, alias: str, user: str, position: int) -> None:
        """A merge found in the log; known positions are passed over."""
        if position in self._edges:
            return
        self._edges[position] = (alias, user)
        if position < max(self._edges):
            self._replay()
        else:
            self._join(alias, user)

    def undo(self, alias: str, position: int) -> None:
        """Take back every merge of that alias from before the position."""
        gone = [at for at, (from_, _) in self._edges.items() if from_ == alias and at < position]
        for at in gone:
            del self._edges[at]
        if gone:
            self._replay()

    def _replay(self) -> None:
        self.replayed += 1
        self._name.clear()
        self._members.clear()
        self._dirty.clear()
        self._reset = True
        for _, (alias, user) in sorted(self._edges.items()):
            self._join(alias, user)

    def _join(self, alias: str, user: str) -> None:
        self.joined += 1
        mine, theirs = self.user(alias), self.user(user)
        name = user if mine == theirs else theirs
        members = self._members.pop(mine, {mine}) | self._members.pop(theirs, {theirs}) | {alias, user}
        self._members[name] = members
        for member in members:
            if self._name.get(member) != name:
                self._name[member] = name
                self._dirty.add(member)

    def flush(self, connection: Any, table: SharedTable) -> None:
        """Bring the table up to date: one row for each id that counts under another's name."""
        if self._reset:
            table.keep("FALSE")
            self._dirty = set(self._name)
            self._reset = False
        if not self._dirty:
            return
        changed = list(self._dirty)
        self._dirty = set()
        table.keep("alias NOT IN (SELECT unnest($1::VARCHAR[]))", [changed])
        rows = [(id, self._name[id]) for id in changed if self._name[id] != id]
        if rows:
            aliases, users = (list(column) for column in zip(*rows, strict=True))
            connection.execute(
                f"INSERT INTO {table.name} SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[])",
                [aliases, users],
            )
