"""Who was exposed to what: the facts on which results stand, and what tracked events carry.

An exposure is a system record "exposure", one for each user and variant. State beside it: space
"exposure:<experiment>", key = user: the variants seen; space "activation", key = user: what every later
event of that user carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..log import Transaction
from ..record import EVENT, SYSTEM, Draft
from .book import effective
from .definition import SPACE, Definition, State

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["ACTIVATED", "DEFINED", "Guard", "activate", "record_exposure"]

DEFINED = "experiments"
"""Setting: there are experiments. What no experiment concerns costs one look at it."""

ACTIVATED = "activations"
"""Setting: there are activated users."""


def record_exposure(
    tx: Transaction,
    experiment: str,
    user: str,
    variant: str,
    time: int,
    properties: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Log an exposure unless that user was seen in that variant before; the variants seen."""
    space = f"exposure:{experiment}"
    kept = tx.get(space, user)
    seen: tuple[str, ...] = () if kept is None else tuple(orjson.loads(kept))
    if variant in seen:
        return seen
    data: dict[str, Any] = {"experiment": experiment, "variant": variant}
    if properties:
        data["properties"] = dict(properties)
    tx.append([Draft(SYSTEM, "exposure", time, orjson.dumps(data).decode(), user)])
    seen = (*seen, variant)
    tx.put(space, user, orjson.dumps(seen))
    return seen


def activate(tx: Transaction, experiment: str, user: str, variant: str) -> None:
    """From now on every event of that user carries the variant."""
    kept = tx.get("activation", user)
    carried = {} if kept is None else orjson.loads(kept)
    if carried.get(experiment) == variant:
        return
    carried[experiment] = variant
    tx.put("activation", user, orjson.dumps(carried))
    if ACTIVATED not in tx.cached("settings"):
        tx.put("settings", ACTIVATED, b"1")


class Guard:
    """Looks at every append, in its transaction: events of activated users are given their variants, and
    an event that carries a running experiment is an exposure, if it is the first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._raw: Mapping[str, bytes] | None = None
        self._known: dict[str, tuple[Definition, State]] = {}

    def __call__(self, tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
        settings = tx.cached("settings")
        if DEFINED not in settings:
            return drafts
        activated = ACTIVATED in settings
        changed: list[Draft] | None = None
        for n, draft in enumerate(drafts):
            if draft.kind != EVENT or draft.user is None:
                continue
            kept = tx.get("activation", draft.user) if activated else None
            if kept is None and draft.experiments is None:
                continue
            if draft.id is not None and tx.position_of(draft.id) is not None:
                continue
            stated = {} if draft.experiments is None else orjson.loads(draft.experiments)
            carried = {} if kept is None else self._carried(tx, orjson.loads(kept))
            known = tx.cached(SPACE)
            for experiment, variant in stated.items():
                # What was exported by another business may carry experiments that aren't here.
                if experiment in known and self._state(tx, experiment).status == "running":
                    record_exposure(tx, experiment, draft.user, variant, draft.time)
            if carried.keys() - stated.keys():
                changed = list(drafts) if changed is None else changed
                both = orjson.dumps({**carried, **stated}).decode()
                changed[n] = draft._replace(experiments=both)
        return drafts if changed is None else changed

    def _carried(self, tx: Transaction, kept: dict[str, str]) -> dict[str, str]:
        carried = {}
        for experiment, variant in kept.items():
            state = self._state(tx, experiment)
            if state.status in ("running", "paused"):
                carried[experiment] = variant
            elif state.status == "graduated" and state.winner is not None:
                carried[experiment] = state.winner
        return carried

    def _state(self, tx: Transaction, experiment: str) -> State:
        raw = tx.cached(SPACE)
        if raw is not self._raw:
            states = {name: State.decode(text) for name, text in raw.items()}
            self._known = {name: (Definition.of_spec(s.spec), s) for name, s in states.items()}
            self._raw = raw
        definition, state = self._known[experiment]
        return effective(definition, state, self._store.now(), self._store.tz)
