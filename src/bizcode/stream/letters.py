"""Dead letters of a stream: what failed, at which stage and how, so that it can be taken up again there.

A letter's `stage`: {"at": which side of a join, "stage": its number, "step": how it reads, "kind", "element",
"window" of a fold that failed}. A result's letter goes when the result is corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ..consume.dead import bury
from ..errors import InvalidQuery
from ..query.reach import describe
from ..unit import UnitOfWork, current
from .element import Element, as_value, packed, plain, unpacked
from .kept import Kept

if TYPE_CHECKING:
    from ..log import Transaction
    from .runtime import Runtime

__all__ = ["Letters", "Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried with an element: a "step" from which it goes on, a "sink" alone, a "fold" of a window, or
    the function of a "join"."""

    kind: str
    stage: int
    window: Kept | None = None


class Letters:
    """The dead letters of a running pipeline, its sides' among them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._results: set[str] = set()
        runtime.state.loader(self._load)

    def _load(self) -> None:
        prefix = f"stream:{self._runtime.name}:"
        self._results = {
            id
            for key, value in self._runtime.store.log.cached("dead").items()
            if key.startswith(prefix)
            for id in (orjson.loads(value).get("stage") or {}).get("element", {}).get("ids", [])[:1]
        }

    def write(self, at: Runtime, error: Exception, element: Element, attempts: int, trial: Trial) -> None:
        """Bury an element, in the batch's unit."""
        unit = current(at.store.log)
        if unit is None:
            raise error
        name, now, position = f"stream:{self._runtime.name}", at.store.now(), element.origin
        data = _shown(element.value) if position is None else None
        stage = {
            "at": at.prefix,
            "stage": trial.stage,
            "step": _step(at, trial),
            "kind": trial.kind,
            "element": packed(element),
            "window": None if trial.window is None else trial.window.plain(),
        }
        key = f"{element.time}-{element.order}" if position is None else str(position)
        self._results.update(element.ids[:1])
        kept = orjson.dumps(stage, default=str)  # as it is now: a window goes on

        def keep(tx: Transaction) -> None:
            free, n = key, 1
            while tx.get("dead", f"{name}:{free}") is not None:
                free, n = f"{key}.{n}", n + 1
            bury(tx, name, position, error, attempts, now, data, free, stage=orjson.loads(kept))

        unit.action(keep)

    def corrected(self, at: Runtime, ids: tuple[str, ...], stage: int) -> None:
        """Results are replaced, or gone: what failed with them at a stage is of no use any more."""
        gone = self._results.intersection(ids)
        unit = current(at.store.log)
        if not gone or unit is None:
            return
        prefix = f"stream:{self._runtime.name}:"

        def forget(tx: Transaction) -> None:
            for key, value in tx.scan("dead", prefix=prefix):
                place = orjson.loads(value).get("stage")
                here = place and place["at"] == at.prefix and place["stage"] == stage
                if here and gone.intersection(place["element"]["ids"][:1]):
                    tx.delete("dead", key)

        unit.action(forget)

    def revive(self, unit: UnitOfWork, kept: dict[str, Any]) -> None:
        """Take a letter up where it failed; what follows is in the unit. If it fails again it is buried again."""
        place = kept["stage"]
        runtime, stage = self._runtime.part(place["at"]), place["stage"]
        element = unpacked(place["element"], place["kind"] == "join")
        window = None if place["window"] is None else Kept.of(place["window"])
        trial = Trial(place["kind"], stage, window)
        if runtime is None or _step(runtime, trial) != place["step"]:
            self._refuse(unit, kept)
            return
        runtime.count("dead", -1)
        runtime.again(element, trial)
        self._runtime.advance()
        self._runtime.finish(unit, 2**62)

    def _refuse(self, unit: UnitOfWork, kept: dict[str, Any]) -> None:
        name, place, now = f"stream:{self._runtime.name}", kept["stage"], self._runtime.store.now()
        error = InvalidQuery(
            f"the stream is another since this failed at {place['step']}: write it again, or discard it"
        )

        def keep(tx: Transaction) -> None:
            key = kept["id"][len(name) + 1 :]
            attempts = kept["attempts"]
            bury(tx, name, kept["position"], error, attempts, now, kept["data"], key, stage=place)

        unit.action(keep)


def _step(runtime: Runtime, trial: Trial) -> str:
    if trial.kind == "join":
        return "the function of the join"
    steps = runtime.pipeline.steps
    return describe(steps[trial.stage]) if trial.stage < len(steps) else ""


def _shown(value: Any) -> Any:
    """An element that no record stands for, as its letter shows it."""
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    return plain(value) if hasattr(value, "data") else as_value(value)
