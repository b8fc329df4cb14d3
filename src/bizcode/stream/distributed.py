"""A running pipeline of which Spark keeps what grows: ranges of the log out, what follows from them in.

What Spark gives is taken here, through the rest of the pipeline into the sinks, in one transaction with the position and
the batch's number.

State, beside the runtime's: "spark" -> {"epoch", "from", "batch", "range", ...}: the name of the checkpoint, the position
that it began behind, the last batch and the last range that are committed here, and what the kind of query adds.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import orjson

from ..consume.consumer import Consumer, Pattern, Stopped
from ..consume.lease import lease
from ..engine import Session
from ..engine.spark.pieces import times
from ..engine.spark.streaming import Plan, Streaming
from ..errors import StorageError
from ..plan.select import Select
from ..record import SYSTEM
from ..unit import UnitOfWork
from .runtime import Runtime

__all__ = ["Distributed"]


class Distributed(ABC):
    """Drives one query, in the process that holds it. Windows and joins say how a range is made, what Spark is fed of
    it, and what is done with what Spark gives.

    Args:
        name: the consumer's.
        place: a directory that the driver and the workers see, for checkpoints.
        session: Spark's.
    """

    plan: Plan
    nothing: Mapping[str, Any]
    """What the kind of query adds to the state, at the beginning."""
    most = 2_000_000
    """How many positions make a range at most."""

    def __init__(self, name: str, runtime: Runtime, place: Path, session: Any) -> None:
        self.name = name
        self._runtime = runtime
        self._place = place
        self._session = session
        self._store = runtime.store
        self.consumer: Consumer
        self._query: Streaming | None = None
        self._directory: Path = place
        self._hold = ExitStack()
        self._barred = 0.0

    def _since(self, pattern: Pattern) -> Pattern:
        return replace(pattern, since=self.consumer.pattern.since)

    @property
    def _state(self) -> dict[str, Any]:
        return self._runtime.state.get("spark") or {"batch": -1, "range": 0, **self.nothing}

    # what the kinds say

    @abstractmethod
    def _range(
        self, after: int, until: int, before: Any = None, mark: Any = None, number: int | None = None
    ) -> Any:
        """What is after one position and up to another: with `number`, `about`, whether it is `empty`.

        Args:
            before: the watermark before it, None: as it is.
            mark: the watermark after it at least.
            number: None: the next.
        """

    @abstractmethod
    def _changes(self, made: Any) -> bool:
        """Whether anything is done about a range."""

    @abstractmethod
    def _parts(self, made: Any) -> list[list[Any]]:
        """What Spark's workers read, of each source."""

    @abstractmethod
    def _settle(self, made: Any, pause: Callable[[float], bool]) -> None:
        """Let Spark do what it was fed, and commit what follows."""

    @abstractmethod
    def _waits(self) -> bool:
        """Whether Spark may have something to give of the ranges that were committed here."""

    @abstractmethod
    def _ends(self) -> list[int]:
        """Watermarks at which something may fire, the least among them."""

    # taking what is new

    def step(self, after: int, pause: Callable[[float], bool]) -> bool:
        """Take the next range; False where there is nothing new, or another process has the query."""
        try:
            if self._query is None and not self._begin(after, pause):
                return False
            until = min(self._store.log.head(), self.consumer.position + self.most)
            made = self._range(self.consumer.position, until)
            if made.empty:
                return False
            if not self._changes(made):
                self.consumer.position = until
                self.consumer.skip(until)
                return True
            self._run(made, pause)
        except Stopped:
            self.stop()
            return False
        except BaseException:
            self.stop()
            raise
        return True

    def _run(self, made: Any, pause: Callable[[float], bool]) -> None:
        assert self._query is not None
        self._feed(self._query, made)
        self._settle(made, pause)

    def _feed(self, query: Streaming, made: Any) -> None:
        query.feed(made.number, made.about, self._parts(made))

    def _arrived(self, pattern: Pattern) -> int | None:
        """When a record of a pattern was last written here with a time of its own."""
        found = list(self._store.writer.arrivals.items())
        return max((at for name, at in found if pattern.may_want(*name)), default=None)

    def _taken_back(self, session: Session, after: int, until: int) -> list[tuple[int, int]]:
        """(record, retraction) of each retraction in a range, by position."""
        found, _ = times(session, [Select(kind=SYSTEM, names=("retract",))], (after, until))
        return [
            (orjson.loads(row.data)["position"], row.position) for row in self._store.stored(found.tolist())
        ]

    def _strange(self) -> StorageError:
        return StorageError(
            f"the checkpoint of {self.name} is at another place than the log: one of them was put "
            'back from a backup. Begin anew by start(reset=True, since="start")'
        )

    # the query

    def _begin(self, after: int, pause: Callable[[float], bool]) -> bool:
        """Start the query, and let it finish what a former process left; False where another process has it."""
        if not self._hold.enter_context(lease(self._store.log.locks, f"spark:{self.name}")):
            self._hold.close()
            self._barred = monotonic() + 1
            return False
        self._store.engine.queries.add(self)  # type: ignore[attr-defined]
        self._runtime.state.reload()
        if self._runtime.state.get("spark") is None:
            self._runtime.state.put("spark", {**self._state, "epoch": uuid.uuid4().hex[:12], "from": after})
            unit = UnitOfWork(self._store.log)
            self._runtime.state.save(unit)
            unit.commit()
        state = self._state
        mine = hashlib.blake2b(self.name.encode(), digest_size=6).hexdigest()
        home = self._place / f"{quote(self.name, safe='')[:60]}-{mine}"
        self._directory = home / state["epoch"]
        for other in home.iterdir() if home.exists() else ():
            if other != self._directory:  # it was begun anew
                shutil.rmtree(other, ignore_errors=True)
        self._query = query = Streaming(self._session, self._directory, self.plan)
        if state["range"] and not query.exists:
            raise StorageError(
                f"the checkpoint of {self.name} is gone from {self._directory}: put it back, or begin anew by "
                'start(reset=True, since="start")'
            )
        # What Spark had begun comes to it as the same range again, from the files that there are now. Where nothing
        # was, an empty range lets it give out what its watermark had passed.
        made, waits = None, self._waits()
        for number in range(state["range"] + (not waits), state["range"] + 2):
            begun = query.begun(number)
            if begun is not None or (waits and number > state["range"]):
                made = self._range(*(begun or (after, after)), number=number)
                self._feed(query, made)
        if made is not None:
            self._settle(made, pause)
        return True

    def stop(self) -> None:
        """End the query in this process; position, state and checkpoint are kept."""
        query, self._query = self._query, None
        if query is not None:
            query.stop()
        self._store.engine.queries.discard(self)  # type: ignore[attr-defined]
        self._hold.close()

    # the clock

    def due(self) -> int | None:
        """When the clock alone will make something fire."""
        if self.consumer.stopped or monotonic() < self._barred:
            return None
        ends = self._ends()
        due = self._runtime.reaches(min(ends)) if ends else None
        if due is not None and self.consumer.position < self._store.log.head():
            return max(due, self._store.now() + 1)
        return due

    def tick(self, now: int) -> None:
        """Move the watermark with the clock where nothing new comes."""
        with self.consumer.lock, lease(self._store.log.locks, self.name) as mine:
            if not mine:
                self._barred = monotonic() + 1
                return
            pause = self.consumer.pause or (lambda _: True)
            after = self.consumer.load()
            try:
                if self._query is None and not self._begin(after, pause):
                    return
                after = self.consumer.position
                self._runtime.idle(now)
                self._run(self._range(after, after), pause)
            except Stopped:
                self.stop()
            except BaseException:
                self.stop()
                raise
