"""Changes of the catalog: what every one of them has in common, so that a crash at any point is harmless."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import BizError, Conflict
from ..log import Log, Transaction
from .catalog import SEGMENTS, Segment, State
from .place import Place

__all__ = ["DISCARDED", "change", "discard", "swept", "written"]

DISCARDED = "discarded"
"""State space of the files that the catalog no longer names: file -> the epoch in which it was dropped."""


@contextmanager
def written(place: Place, log: Log) -> Iterator[list[Segment]]:
    """The files written in the block; on an error those that the catalog doesn't name are deleted again."""
    made: list[Segment] = []
    try:
        yield made
    except BaseException:
        # A commit may have failed after it took place: without an answer, orphans are the safe side.
        with suppress(BizError, OSError):
            for segment in made:
                if log.get(SEGMENTS, segment.id) is None:
                    place.remove(segment.file)
        raise


def change(log: Log, expected: State, commit: Callable[[Transaction], None], to: int | None = None) -> None:
    """One transaction that changes the catalog. Raises Conflict if another has changed it since `expected`."""
    with log.transaction() as tx:
        state = State.read(tx)
        if state.generation != expected.generation:
            raise Conflict("the segments were changed by another process meanwhile: try again")
        commit(tx)
        state._replace(generation=state.generation + 1, to=state.to if to is None else to).write(tx)


def discard(tx: Transaction, segments: list[Segment]) -> None:
    """Take segments out of the catalog; their files are deleted when nobody can be reading them."""
    epoch = State.read(tx).epoch
    for segment in segments:
        tx.delete(SEGMENTS, segment.id)
        tx.put(DISCARDED, segment.file, str(epoch).encode())


def swept(place: Place, log: Log, drained: Callable[[int], bool]) -> int:
    """Delete the discarded files that nobody can be reading; how many remain.
    The maintenance lock must be held."""
    waiting = {file: int(epoch) for file, epoch in log.scan(DISCARDED)}
    if not waiting:
        return 0
    state = State.read(log)
    # The other side's lock serves the last epoch and the next: the last one must have ended.
    if not drained(state.epoch + 1):
        return len(waiting)
    if any(epoch >= state.epoch for epoch in waiting.values()):
        with log.transaction() as tx:
            state = State.read(tx)
            state = state._replace(epoch=state.epoch + 1)
            state.write(tx)
        gone = (
            waiting if drained(state.epoch - 1) else {f: e for f, e in waiting.items() if e < state.epoch - 1}
        )
    else:
        gone = waiting
    for file in gone:
        place.remove(file)
    if gone:
        with log.transaction() as tx:
            for file in gone:
                tx.delete(DISCARDED, file)
    return len(waiting) - len(gone)
