"""The groups of a view: an accumulator's state per aggregation, and what is taken out of them again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from ..plan.accumulator import Accumulator
from ..record import Row
from .definition import Definition
from .order import Key, key_of

__all__ = ["Group", "Groups"]

Values = tuple[Any, ...]


class Group:
    """How many records, and a state for each aggregation.

    `records` are those of a group that keeps them: id -> (time, order, values). `stale`: its states are to be made
    again from them. `rounded`: its sums of floats were rounded, so that none can be taken out exactly.
    """

    __slots__ = ("count", "records", "rounded", "stale", "states")

    def __init__(self, folds: list[Accumulator]) -> None:
        self.count = 0
        self.states = [fold.new() for fold in folds]
        self.records: dict[Hashable, tuple[int, Any, Values]] = {}
        self.stale = False
        self.rounded = False


class Groups:
    """Groups by place.

    Args:
        folds: an accumulator for each aggregation.
        dirty: told the places of the groups that change.
    """

    def __init__(self, definition: Definition, folds: list[Accumulator], dirty: set[Key]) -> None:
        self._definition = definition
        self._folds = folds
        self._adds = [fold.add for fold in folds]
        self._summed = [n for n, fold in enumerate(folds) if fold.made.operation in ("sum", "avg")]
        self._dirty = dirty
        self._table: dict[Key, Group] = {}
        self._user = definition.user_at
        self._indexed = self._user is not None and len(definition.group_by) > 1
        self._places: dict[str | None, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, place: Key) -> bool:
        return place in self._table

    @property
    def records(self) -> int:
        """How many records there are in all."""
        return sum(group.count for group in self._table.values())

    def __iter__(self) -> Iterator[Key]:
        return iter(self._table)

    def group(self, place: Key) -> Group:
        """The group of a place, a new one if there is none; it is going to change."""
        group = self._table.get(place)
        if group is None:
            group = self._table[place] = Group(self._folds)
            if self._indexed:
                self._places.setdefault(place[self._user or 0], set()).add(place)
        self._dirty.add(place)
        return group

    def restore(self, place: Key, count: int, rounded: bool, states: list[Any]) -> None:
        """A group as it was."""
        group = self.group(place)
        group.count, group.rounded, group.states = count, rounded, states

    def get(self, place: Key) -> Group | None:
        """The group of a place, None if there is none."""
        return self._table.get(place)

    def drop(self, place: Key) -> Group | None:
        """Let a group go."""
        group = self._table.pop(place, None)
        if group is not None:
            self._dirty.add(place)
            if self._indexed:
                name = place[self._user or 0]
                of_user = self._places[name]
                of_user.discard(place)
                if not of_user:
                    del self._places[name]
        return group

    def of_user(self, name: str | None) -> list[Key]:
        """The places of a user's groups."""
        if self._indexed:
            return list(self._places.get(name, ()))
        return [(name,)] if (name,) in self._table else []

    def row(self, place: Key) -> Row | None:
        """The row of a group, None if there is none."""
        group = self._table.get(place)
        if group is None:
            return None
        if group.count <= 0:
            self.drop(place)
            return None
        if group.stale:
            self._again(group)
        shown = dict(zip(self._definition.group_by, key_of(place), strict=True))
        for name, fold, state in zip(self._definition.compute, self._folds, group.states, strict=True):
            shown[name] = fold.result(state)
        return Row(shown)

    # what comes

    def add(self, place: Key, values: Values, time: int, order: Any) -> None:
        """One record more."""
        group = self._table.get(place)
        if group is None:
            group = self.group(place)
        self._dirty.add(place)
        group.count += 1
        for add, state, value in zip(self._adds, group.states, values, strict=False):
            add(state, value, time, order)

    def keep(self, place: Key, id: Hashable, values: Values, time: int, order: Any) -> None:
        """One record more, which can be taken out by its id."""
        self.add(place, values, time, order)
        self._table[place].records[id] = (time, order, values)

    def merge(self, place: Key, count: int, states: list[Any], rounded: bool = False) -> None:
        """Many records more, by their states."""
        group = self.group(place)
        group.rounded |= rounded
        if not group.count:
            group.count, group.states = count, states
            return
        group.count += count
        for fold, mine, theirs in zip(self._folds, group.states, states, strict=True):
            fold.merge(mine, theirs)

    # what goes

    def remove(self, place: Key, values: Values, time: int, order: Any) -> bool | None:
        """Take a record out; False where the states can't tell what is left, None where there is no such group."""
        group = self._table.get(place)
        if group is None or group.count <= 0:
            return None
        group.count -= 1
        self._dirty.add(place)
        if not group.count:
            group.states = [fold.new() for fold in self._folds]
            group.stale = group.rounded = False
            return True
        if group.rounded and any(values[n] is not None for n in self._summed):
            return False
        known = True
        for fold, state, value in zip(self._folds, group.states, values, strict=True):
            known &= fold.remove(state, value, time, order)
        return known

    def leave(self, place: Key, id: Hashable) -> bool:
        """Take out a record that was kept, by its id; True if it was there."""
        group = self._table.get(place)
        kept = None if group is None else group.records.pop(id, None)
        if group is None or kept is None:
            return False
        time, order, values = kept
        if not self.remove(place, values, time, order):
            group.stale = True
        return True

    def rename(self, old: str, new: str) -> list[tuple[Hashable, Key]]:
        """A user's groups are those of another name from now on; gives (id, place) of the records that were kept."""
        moved: list[tuple[Hashable, Key]] = []
        at = self._user
        assert at is not None
        for place in self.of_user(old):
            group = self.drop(place)
            assert group is not None
            to = (*place[:at], new, *place[at + 1 :])
            if group.stale:
                self._again(group)
            known = self._table.get(to)
            if known is not None and known.stale:
                self._again(known)
            self.merge(to, group.count, group.states, group.rounded)
            self._table[to].records.update(group.records)
            moved += ((id, to) for id in group.records)
        return moved

    def _again(self, group: Group) -> None:
        group.states = [fold.new() for fold in self._folds]
        for time, order, values in group.records.values():
            for fold, state, value in zip(self._folds, group.states, values, strict=True):
                fold.add(state, value, time, order)
        group.stale = False
