"""The log at its simplest: plain lists and dicts under one lock, nothing kept.

The reference that other implementations are compared with, and a quick log for tests.
Every transaction works on a copy of everything, which is then put in place: simple, not fast.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from ..errors import Conflict, StorageError
from ..record import Draft, Stored
from .interface import Appended, Held, Locks, Pending, Reader, Transaction

__all__ = ["MemoryLog"]


class _Locks:
    """Implements `Locks` for the threads of one process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held: dict[str, int] = {}

    def take(self, name: str, *, shared: bool = False, wait: bool = False) -> Held | None:
        """Below 0: held alone; else by so many together."""
        with self._condition:
            while (count := self._held.get(name, 0)) < 0 or (count and not shared):
                if not wait:
                    return None
                self._condition.wait()
            self._held[name] = count + 1 if shared else -1
        return _Held(self, name)

    def release(self, name: str) -> None:
        with self._condition:
            self._held[name] = max(0, self._held[name] - 1) if self._held[name] > 0 else 0
            self._condition.notify_all()


class _Held:
    def __init__(self, locks: _Locks, name: str) -> None:
        self._locks: _Locks | None = locks
        self._name = name

    def release(self) -> None:
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.release(self._name)


class _State:
    def __init__(self) -> None:
        self.records: dict[int, Stored] = {}
        self.ids: dict[str, int] = {}
        self.spaces: dict[str, dict[str, bytes]] = {}
        self.erased: set[int] = set()
        self.head = 0
        self.trimmed = 0

    def copy(self) -> _State:
        new = _State()
        new.records = dict(self.records)
        new.ids = dict(self.ids)
        new.spaces = {space: dict(pairs) for space, pairs in self.spaces.items()}
        new.erased = set(self.erased)
        new.head = self.head
        new.trimmed = self.trimmed
        return new


class _Reads:
    """Reads of the state that `_now` gives."""

    store_id: str

    def _now(self) -> _State:
        raise StorageError("this transaction or snapshot has ended: use it inside its `with` block only")

    def head(self) -> int:
        return self._now().head

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        now = self._now()
        after = max(after, now.trimmed)
        found = [
            record
            for position, record in sorted(now.records.items())
            if position > after and (until is None or position <= until)
        ]
        return found[:limit]

    def at(self, positions: Iterable[int]) -> list[Stored]:
        records = self._now().records
        return [records[position] for position in sorted(set(positions)) if position in records]

    def position_of(self, id: str) -> int | None:
        now = self._now()
        if id in now.ids:
            return now.ids[id]
        for position in range(1, now.head + 1):
            if id == f"{self.store_id}-{position}" and position not in now.erased:
                record = now.records.get(position)
                if record.id is None if record is not None else position <= now.trimmed:
                    return position
        return None

    def entity_version(self, entity: str) -> int:
        return max((event.version or 0 for event in self.entity_events(entity)), default=0)

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        events = [
            record
            for record in self._now().records.values()
            if record.entity == entity
            and (record.version or 0) > after_version
            and (until_version is None or (record.version or 0) <= until_version)
        ]
        return iter(sorted(events, key=lambda event: event.version or 0))

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        found = {record.entity for record in self._now().records.values() if record.entity is not None}
        return sorted(
            entity for entity in found if entity.startswith(prefix) and (entity > after or not after)
        )[:limit]

    def get(self, space: str, key: str) -> bytes | None:
        return self._now().spaces.get(space, {}).get(key)

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        pairs = sorted(self._now().spaces.get(space, {}).items())
        return [
            (key, value) for key, value in pairs if key.startswith(prefix) and (key > after or not after)
        ][:limit]

    def cached(self, space: str) -> Mapping[str, bytes]:
        return MappingProxyType(dict(self._now().spaces.get(space, {})))


class _View(_Reads):
    """A snapshot: the state of one moment, which nobody changes any more."""

    def __init__(self, store_id: str, state: _State) -> None:
        self.store_id = store_id
        self.state: _State | None = state

    def _now(self) -> _State:
        return self.state if self.state is not None else super()._now()


class _Transaction(_View):
    """A copy that takes the log's place at the end."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log.store_id, log._state.copy())
        self._log = log
        self._guarding = False

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        given = len(drafts)
        hook = self._log.before_append
        if hook is not None and not self._guarding:
            self._guarding = True
            try:
                drafts = hook(self, drafts)
            finally:
                self._guarding = False
        before = self._now()
        self.state = before.copy()
        try:
            return [self._append(draft) for draft in drafts][:given]
        except BaseException:
            self.state = before
            raise

    def _append(self, draft: Draft) -> Appended:
        now = self._now()
        if draft.id is not None and draft.id in now.ids:
            return Appended(now.ids[draft.id], duplicate=True)
        version = None
        if draft.entity is not None:
            version = self.entity_version(draft.entity)
            if draft.expect is not None and draft.expect != version:
                raise Conflict(f"{draft.entity} is at version {version}, not at the expected {draft.expect}")
            version += 1
        now.head += 1
        kind, name, instant, data, user, id, entity, value, experiments, _ = draft
        now.records[now.head] = Stored(
            now.head, kind, name, instant, data, user, id, entity, version, value, experiments
        )
        if id is not None:
            now.ids[id] = now.head
        return Appended(now.head, version, experiments)

    def put(self, space: str, key: str, value: bytes) -> None:
        self._now().spaces.setdefault(space, {})[key] = value

    def delete(self, space: str, key: str) -> bool:
        return self._now().spaces.get(space, {}).pop(key, None) is not None

    def clear(self, space: str, prefix: str = "") -> int:
        return sum(self.delete(space, key) for key, _ in self.scan(space, prefix))

    def trim(self, until: int) -> None:
        now = self._now()
        now.trimmed = max(now.trimmed, min(until, now.head))
        now.records = {p: r for p, r in now.records.items() if p > now.trimmed or r.entity is not None}

    def erase(self, positions: Iterable[int]) -> int:
        now = self._now()
        wanted = {position for position in positions if 1 <= position <= now.head}
        gone = [now.records.pop(position) for position in wanted if position in now.records]
        now.ids = {id: position for id, position in now.ids.items() if position not in wanted}
        now.erased |= wanted
        return len(gone)


class _Done:
    """A buffered write that was not kept waiting."""

    def __init__(self, log: MemoryLog, answer: Appended | None, error: Exception | None) -> None:
        self._log = log
        self._answer = answer
        self.error = error

    def result(self) -> Appended:
        if self.error is not None:
            if self._log._failed is self:
                self._log._failed = None
            raise self.error
        return self._answer  # type: ignore[return-value]


class MemoryLog(_Reads):
    """Implements `Log` in memory, for tests. Threads may share it; processes can't.

    >>> log = MemoryLog()
    >>> log.append([Draft("event", "Signup", 0, "{}")])[0].position
    1
    """

    def __init__(self) -> None:
        self.locks: Locks = _Locks()
        self.store_id = secrets.token_hex(6)
        self.before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None = None
        self._state = _State()
        self._lock = threading.Lock()
        self._owner = 0
        self._condition = threading.Condition()
        self._commits = 0
        self._wakes = 0
        self._closed = False
        self._failed: _Done | None = None

    def _now(self) -> _State:
        self._refuse_if_closed()
        return self._state

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageError("the log has been closed")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        if self._owner == threading.get_ident():
            raise StorageError("this thread is inside a transaction of the log already")
        with self._lock:
            self._refuse_if_closed()
            self._owner = threading.get_ident()
            tx = _Transaction(self)
            try:
                yield tx
                self._state = tx._now()
            finally:
                tx.state = None
                self._owner = 0
        with self._condition:
            self._commits += 1
            self._condition.notify_all()

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        view = _View(self.store_id, self._now())
        try:
            yield view
        finally:
            view.state = None

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        with self.transaction() as tx:
            return tx.append(drafts)

    def append_later(self, draft: Draft) -> Pending:
        self._refuse_if_closed()
        try:
            return _Done(self, self.append([draft])[0], None)
        except Exception as error:  # noqa: BLE001
            done = _Done(self, None, error)
            self._failed = self._failed or done
            return done

    def flush(self) -> None:
        self._refuse_if_closed()
        failed, self._failed = self._failed, None
        if failed is not None and failed.error is not None:
            raise failed.error

    def changes(self) -> int:
        self._refuse_if_closed()
        return self._commits

    def wait(self, changes: int, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            self._refuse_if_closed()
            wakes = self._wakes
            while self._commits == changes and self._wakes == wakes:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._condition.wait(left)
            return self._commits != changes

    def wake(self) -> None:
        with self._condition:
            self._wakes += 1
            self._condition.notify_all()

    def size(self) -> int:
        return sum(len(record.data) for record in self._now().records.values())

    def vacuum(self) -> None:
        self._refuse_if_closed()

    def check(self) -> list[str]:
        self._refuse_if_closed()
        return []

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.wake()
            failed, self._failed = self._failed, None
            if failed is not None and failed.error is not None:
                raise failed.error
