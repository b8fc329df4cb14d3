"""From draft to running, paused, stopped and graduated: each step a record, and the state beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import AlreadyExists, Conflict, NotFound
from ..record import SYSTEM
from ..room import Room, within
from .book import effective
from .definition import SPACE, Definition, State
from .exposure import DEFINED

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["FROM", "change", "create"]

FROM = {
    "running": ("draft", "paused"),
    "paused": ("running",),
    "stopped": ("running", "paused"),
    "graduated": ("running", "paused", "stopped"),
}
"""From which states each state can be reached."""

_STEP = {"running": "started", "paused": "paused", "stopped": "stopped", "graduated": "graduated"}


def create(store: Store, definition: Definition, autostart: bool) -> bool:
    """Keep a definition; False if it was there. Raises AlreadyExists for something else under its name."""

    def step(room: Room) -> bool:
        kept = room.get(SPACE, definition.name)
        if kept is not None:
            known = State.decode(kept).spec
            if known != definition.spec:
                different = [key for key, value in definition.spec.items() if known.get(key) != value]
                raise AlreadyExists(
                    f"experiment {definition.name!r} is already defined with other {', '.join(different)}: "
                    f"choose another name"
                )
            return False
        now = store.now()
        number = int(room.get("settings", DEFINED) or 0) + 1
        room.put("settings", DEFINED, str(number).encode())
        state = State(definition.spec, number, now)
        room.append(store.writer.draft(SYSTEM, "define", {"what": "experiment", **definition.spec}))
        if autostart:
            state = replace(state, status="running", started=now)
            room.append(_status(store, definition.name, "draft", state))
        room.put(SPACE, definition.name, state.encode())
        return True

    return within(store, step)


def _status(store: Store, name: str, before: str, state: State) -> Any:
    data = {"experiment": name, "from": before, "status": state.status}
    data |= {key: getattr(state, key) for key in ("winner", "reason") if getattr(state, key) is not None}
    return store.writer.draft(SYSTEM, "experiment-status", data)


def change(
    store: Store, name: str, status: str, *, winner: str | None = None, reason: str | None = None
) -> bool:
    """One step of an experiment's life.

    Args:
        status: the state to reach.
        reason: what ends it, if that is a rule of its own ("duration", "min_sample_size"); then an
            experiment that has ended already is left alone, and False returned.
    Raises:
        NotFound: no such experiment. Conflict: the step can't be taken from where it stands.
    """

    def step(room: Room) -> bool:
        kept = room.get(SPACE, name)
        if kept is None:
            raise NotFound(f"there is no experiment {name!r}")
        stored = State.decode(kept)
        now = store.now()
        state = effective(Definition.of_spec(stored.spec), stored, now, store.tz)
        if reason is not None:
            if stored.status not in FROM[status]:
                return False
        elif state.status not in FROM[status]:
            raise Conflict(
                f"experiment {name!r} can't go from {state.status} to {status}: it can be {_STEP[status]} "
                f"only when {' or '.join(FROM[status])}"
            )
        fresh = replace(state, status=status)
        if status == "running" and state.started is None:
            fresh = replace(fresh, started=now)
        if status in ("stopped", "graduated") and state.ended is None:
            fresh = replace(fresh, ended=now, reason=reason or {"stopped": "stop"}.get(status, "graduate"))
        if winner is not None:
            fresh = replace(fresh, winner=winner)
        room.append(_status(store, name, stored.status, fresh))
        room.put(SPACE, name, fresh.encode())
        return True

    return within(store, step)
