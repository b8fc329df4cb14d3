"""One transaction of many writes: what `biz.do` and the consumers' handlers stand on.

Inside a unit nothing holds a lock while user code runs. Writes are kept in memory, what was read
and must still hold is kept as checks, and the end is one short transaction of the log.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from .errors import Conflict
from .log import Appended, Log, Transaction
from .record import Draft

__all__ = ["UnitOfWork", "current"]

_ABSENT = object()
_current: ContextVar[UnitOfWork | None] = ContextVar("bizcode_unit", default=None)


def current(log: Log | None = None) -> UnitOfWork | None:
    """The open unit of this thread or task; with a log given, only if it is a unit of that log."""
    unit = _current.get()
    if unit is None or unit.closed or (log is not None and unit.log is not log):
        return None
    return unit


class UnitOfWork:
    """Buffered writes of one log that commit together or not at all. Safe for threads that share it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.closed = False
        self._lock = threading.RLock()
        self._drafts: list[Draft] = []
        self._answers: list[Callable[[Appended], None] | None] = []
        self._placed: list[tuple[int, Callable[[Appended], None]]] = []
        self._ids: dict[str, int] = {}
        self._records: dict[str, Any] = {}
        self._appended: dict[str, int] = {}
        self._state: dict[tuple[str, str], bytes | None] = {}
        self._journal: list[tuple[tuple[str, str], Any]] = []
        self._versions: dict[str, int] = {}
        self._checks: dict[Any, Callable[[Transaction], None]] = {}
        self._preludes: list[Callable[[Transaction], None]] = []
        self._actions: list[Callable[[Transaction], None]] = []
        self._after: list[Callable[[], None]] = []

    # what is written

    def append(
        self, draft: Draft, answer: Callable[[Appended], None] | None = None, record: Any = None
    ) -> int:
        """Keep a draft; `answer` is called with its position after the commit. Returns its index.
        The same id again keeps the first and returns its index. `record` is what `record(id)` gives."""
        with self._lock:
            self._open()
            if draft.id is not None:
                known = self._ids.get(draft.id)
                if known is not None:
                    return known
                self._ids[draft.id] = len(self._drafts)
                self._records[draft.id] = record
            if draft.entity is not None:
                self._appended[draft.entity] = self._appended.get(draft.entity, 0) + 1
            self._drafts.append(draft)
            self._answers.append(answer)
            return len(self._drafts) - 1

    def record(self, id: str) -> Any:
        """What this unit gave its writer for an id; None if it has no draft with that id."""
        with self._lock:
            return self._records.get(id) if id in self._ids else None

    def on_append(self, index: int, answer: Callable[[Appended], None]) -> None:
        """Call `answer` too when the draft at that index is stored, before the actions."""
        with self._lock:
            self._placed.append((index, answer))

    @property
    def empty(self) -> bool:
        """Nothing was written, and nothing read must hold."""
        return not (self._drafts or self._state or self._actions or self._checks)

    @property
    def drafts(self) -> list[Draft]:
        """What is to be appended, in order."""
        with self._lock:
            return list(self._drafts)

    def put(self, space: str, key: str, value: bytes | None) -> None:
        """Set state at the commit; None deletes."""
        with self._lock:
            self._open()
            self._journal.append(((space, key), self._state.get((space, key), _ABSENT)))
            self._state[space, key] = value

    def get(self, space: str, key: str) -> bytes | None:
        """State as this unit sees it: its own writes, then the log's, which must then hold until the commit."""
        with self._lock:
            if (space, key) in self._state:
                return self._state[space, key]
            value = self.log.get(space, key)
            self.check(("state", space, key), _unchanged_state(space, key, value))
            return value

    def peek(self, space: str, key: str) -> bytes | None:
        """State as this unit sees it, without a claim that it holds until the commit."""
        with self._lock:
            if (space, key) in self._state:
                return self._state[space, key]
            return self.log.get(space, key)

    def written(self, space: str) -> dict[str, bytes | None]:
        """This unit's own writes to a space."""
        with self._lock:
            return {key: value for (s, key), value in self._state.items() if s == space}

    def entity_version(self, entity: str, *, hold: bool = True) -> int:
        """An entity's version as this unit sees it, its own drafts counted. With `hold` others must not
        append to it until the commit: say so whenever a decision rests on what was read."""
        with self._lock:
            if entity not in self._versions:
                self._versions[entity] = self.log.entity_version(entity)
            version = self._versions[entity]
            if hold:
                self.check(("entity", entity), _unchanged_entity(entity, version))
            return version + self._appended.get(entity, 0)

    def _count(self) -> None:
        self._appended = dict(Counter(draft.entity for draft in self._drafts if draft.entity is not None))

    # what must hold, and what follows

    def check(self, key: Any, check: Callable[[Transaction], None]) -> None:
        """Called in the committing transaction before anything is written; raises Conflict. One per key."""
        with self._lock:
            self._checks.setdefault(key, check)

    def before(self, action: Callable[[Transaction], None]) -> None:
        """Called in the committing transaction before the drafts are appended, after the checks."""
        with self._lock:
            self._open()
            self._preludes.append(action)

    def action(self, action: Callable[[Transaction], None]) -> None:
        """Called in the committing transaction after the drafts are appended."""
        with self._lock:
            self._actions.append(action)

    def after(self, action: Callable[[], None]) -> None:
        """Called once the commit has happened."""
        with self._lock:
            self._after.append(action)

    # taking back

    def mark(self) -> tuple[Any, ...]:
        """The present moment of this unit, for `reset`."""
        with self._lock:
            return (
                len(self._drafts),
                len(self._placed),
                len(self._journal),
                len(self._preludes),
                len(self._actions),
                len(self._after),
            )

    def reset(self, mark: tuple[Any, ...]) -> None:
        """Forget what was written since the mark."""
        with self._lock:
            drafts, placed, journal, preludes, actions, after = mark
            for draft in self._drafts[drafts:]:
                if draft.id is not None:
                    self._ids.pop(draft.id, None)
            del self._drafts[drafts:], self._answers[drafts:], self._placed[placed:]
            del self._preludes[preludes:], self._actions[actions:], self._after[after:]
            self._count()
            while len(self._journal) > journal:
                place, value = self._journal.pop()
                if value is _ABSENT:
                    self._state.pop(place, None)
                else:
                    self._state[place] = value

    def remove(self, id: str) -> bool:
        """Take a draft with that id out again; True if it was there."""
        with self._lock:
            at = self._ids.pop(id, None)
            if at is None:
                return False
            del self._drafts[at], self._answers[at]
            self._count()
            self._ids = {draft.id: n for n, draft in enumerate(self._drafts) if draft.id is not None}
            self._placed = [(n - (n > at), answer) for n, answer in self._placed if n != at]
            return True

    # the end

    def commit(self) -> list[Appended]:
        """One transaction of the log. Raises what a check raised; then nothing is stored."""
        with self._lock:
            self._open()
            if self._drafts or self._state or self._preludes or self._actions:
                with self.log.transaction() as tx:
                    appended = self.write(tx)
            else:
                if self._checks:
                    with self.log.transaction() as tx:
                        for check in self._checks.values():
                            check(tx)
                appended = []
            self.done(appended)
            return appended

    def write(self, tx: Transaction) -> list[Appended]:
        """The commit's work inside a transaction that the caller has open; `done` must follow its commit."""
        for check in self._checks.values():
            check(tx)
        for action in self._preludes:
            action(tx)
        appended = tx.append(self._drafts) if self._drafts else []
        for index, answer in self._placed:
            answer(appended[index])
        for (space, key), value in self._state.items():
            if value is None:
                tx.delete(space, key)
            else:
                tx.put(space, key, value)
        for action in self._actions:
            action(tx)
        return appended

    def done(self, appended: Iterable[Appended]) -> None:
        """Close after a successful commit: tell the writers their positions."""
        self.closed = True
        for answer, row in zip(self._answers, appended, strict=False):
            if answer is not None:
                answer(row)
        for action in self._after:
            action()

    def discard(self) -> None:
        """Close without a trace."""
        self.closed = True

    def enter(self) -> Any:
        """Make this unit the current one of this thread or task; give the token to `leave`."""
        return _current.set(self)

    def leave(self, token: Any) -> None:
        _current.reset(token)

    def _open(self) -> None:
        if self.closed:
            raise Conflict("this transaction has ended: writes belong inside its `biz.do` block")


def _unchanged_state(space: str, key: str, value: bytes | None) -> Callable[[Transaction], None]:
    def check(tx: Transaction) -> None:
        if tx.get(space, key) != value:
            raise Conflict(f"{key!r} was changed by another writer during this transaction")

    return check


def _unchanged_entity(entity: str, version: int) -> Callable[[Transaction], None]:
    def check(tx: Transaction) -> None:
        found = tx.entity_version(entity)
        if found != version:
            raise Conflict(
                f"{entity} was at version {version} when this transaction read it and is at {found} now"
            )

    return check
