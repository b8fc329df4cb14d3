"""Every experiment as the log has it now, read again only after something was committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..errors import NotFound
from .assignment import Assignment
from .definition import SPACE, Definition, State

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Book", "Entry", "effective", "planned_end"]

KNOWN = 200_000
"""So many exposed users are remembered by each process, beside what the log knows."""


def planned_end(definition: Definition, state: State, tz: Any) -> int | None:
    """When the duration is over; None without one, or before the start."""
    if definition.duration is None or state.started is None:
        return None
    return when.shift(state.started, definition.duration, tz)


def effective(definition: Definition, state: State, now: int, tz: Any) -> State:
    """The state by the clock: what runs past its planned end has ended there, even if nobody has said so."""
    end = planned_end(definition, state, tz)
    if end is None or state.status not in ("running", "paused") or now < end:
        return state
    return replace(state, status="stopped", ended=end, reason="duration")


class Entry:
    """One experiment in this process: its definition with the functions given here, its state, its split."""

    __slots__ = ("assignment", "definition", "ends", "known", "raw", "state", "tz")

    def __init__(self, definition: Definition, raw: bytes, tz: Any) -> None:
        self.definition = definition
        self.raw = raw
        self.tz = tz
        self.state = State.decode(raw)
        self.assignment = Assignment(definition.name, definition.variants, definition.weights)
        self.known: dict[str, tuple[str, ...]] = {}
        self.ends = planned_end(definition, self.state, tz)

    def now(self, now: int) -> State:
        """The state at an instant."""
        if self.ends is None or now < self.ends:
            return self.state
        return effective(self.definition, self.state, now, self.tz)


class Book:
    """The experiments of one store, as one process sees them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes: int | None = None
        self._raw: Mapping[str, bytes] | None = None
        self._erased: bytes | None = None
        self._entries: dict[str, Entry] = {}
        self._given: dict[str, Definition] = {}

    def give(self, definition: Definition) -> None:
        """Keep a definition's functions for this process."""
        self._given[definition.name] = definition
        entry = self._entries.get(definition.name)
        if entry is not None:
            entry.definition = definition

    def entries(self) -> dict[str, Entry]:
        """Every experiment by name, of now."""
        log = self._store.log
        changes = log.changes()
        if changes != self._changes:
            raw = log.cached(SPACE)
            if raw is not self._raw:
                self._entries = {name: self._entry(name, text) for name, text in raw.items()}
                self._raw = raw
            erased = log.cached("settings").get("erased")
            if erased != self._erased:
                for entry in self._entries.values():
                    entry.known = {}
                self._erased = erased
            self._changes = changes
        return self._entries

    def _entry(self, name: str, text: bytes) -> Entry:
        entry = self._entries.get(name)
        if entry is not None and entry.raw == text:
            return entry
        given = self._given.get(name)
        fresh = Entry(given or Definition.of_spec(State.decode(text).spec), text, self._store.tz)
        if entry is not None:
            fresh.known = entry.known
        return fresh

    def entry(self, name: str) -> Entry:
        """One experiment. Raises NotFound."""
        found = self.entries().get(name)
        if found is None:
            raise NotFound(
                f"there is no experiment {name!r}: define it by biz.experiment.define({name!r}, ...)"
            )
        return found

    def seen(self, entry: Entry, user: str) -> tuple[str, ...]:
        """The variants in which a user was exposed, in that order; empty for a new one."""
        found = entry.known.get(user)
        if found is None:
            kept = self._store.log.get(f"exposure:{entry.definition.name}", user)
            if kept is None:
                return ()
            found = tuple(orjson.loads(kept))
            self.remember(entry, user, found)
        return found

    def remember(self, entry: Entry, user: str, variants: tuple[str, ...]) -> None:
        """Keep what is known of a user in memory too."""
        if len(entry.known) >= KNOWN:
            entry.known.clear()
        entry.known[user] = variants
