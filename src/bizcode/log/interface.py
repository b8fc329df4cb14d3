"""What a log is. One contract suite (`bizcode.testing.LogContract`) holds every implementation to it.

A log keeps three things that change in one transaction: the records, the ids already used,
and small state under (space, key), where everything that must move together with records
lives: definitions, the catalog of segments, consumers' positions and leases, views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..record import Draft, Stored

__all__ = ["Appended", "Held", "Locks", "Log", "Pending", "Reader", "Transaction"]


class Appended(NamedTuple):
    """The answer to one draft. `duplicate`: its id was known, `position` is the stored record's
    and nothing was written; `version` and `experiments` are then unset."""

    position: int
    version: int | None = None
    experiments: str | None = None
    duplicate: bool = False


class Reader(Protocol):
    """Reads of one consistent moment."""

    def head(self) -> int:
        """The newest committed position, 0 in an empty log. Never goes back, not even when records
        are sealed away or erased."""
        ...

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        """Records with after < position <= until that are still in the tail, in order of position.
        Entity events that have been sealed are not part of the tail, though the log keeps them."""
        ...

    def at(self, positions: Iterable[int]) -> list[Stored]:
        """Those of the positions that the log still holds (tail and entity events), in order."""
        ...

    def position_of(self, id: str) -> int | None:
        """Position of the record written with that id (given, or f"{store_id}-{position}"),
        wherever the record lies now; None if there is none. Given ids are looked up first."""
        ...

    def entity_version(self, entity: str) -> int:
        """The newest version of an entity ("Order/o1"), 0 without events."""
        ...

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        """An entity's events in order of version, by index: costs what it returns, never the log."""
        ...

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        """Entities that start with the prefix ("Order/"), in order, greater than `after`."""
        ...

    def get(self, space: str, key: str) -> bytes | None:
        """State under a key, None if missing."""
        ...

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        """Pairs of a space whose key starts with prefix and is greater than `after` ("" for from the
        start), in order of key (by code point)."""
        ...

    def cached(self, space: str) -> Mapping[str, bytes]:
        """A whole small space, kept in memory and read again only after it may have changed.
        For definitions and settings, which every write or query looks at."""
        ...


class Transaction(Reader, Protocol):
    """Reads and writes that become visible together, or not at all. Short: it holds the write lock."""

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Store the drafts in order. Entity drafts get the next version of their entity;
        `expect` is the version the entity must have before this draft, else Conflict
        (a known id returns the stored record before expect is looked at). An id that stands
        twice, here or in the log, is stored once. All or none."""
        ...

    def put(self, space: str, key: str, value: bytes) -> None: ...

    def delete(self, space: str, key: str) -> bool:
        """True if it was there."""
        ...

    def clear(self, space: str, prefix: str = "") -> int:
        """Delete every key of a space that starts with prefix; how many there were."""
        ...

    def trim(self, until: int) -> None:
        """The records up to that position are sealed: events, measurements and system records leave
        the tail; entity events stay readable by entity, but no longer count as tail."""
        ...

    def erase(self, positions: Iterable[int]) -> int:
        """Remove records for good, tail and entity events alike, with their ids; how many there were.
        Versions of what remains don't change. The bytes are overwritten, at the latest by `vacuum`."""
        ...


class Pending(Protocol):
    """A buffered write that is not committed yet."""

    def result(self) -> Appended:
        """Waits for the commit; raises what it raised."""
        ...


class Held(Protocol):
    """A lock that is held."""

    def release(self) -> None:
        """Let go of it. Twice is fine; in a forked child it frees nothing that the parent holds."""
        ...


class Locks(Protocol):
    """Locks by name among everybody who has the log open. A holder's death frees them. Each `take` is a holder
    of its own, in one thread or process as in several."""

    def take(self, name: str, *, shared: bool = False, wait: bool = False) -> Held | None:
        """Take a lock, alone or `shared` with others who share it; None if it can't be had now and `wait` is
        false. Raises StorageError where nothing can be locked."""
        ...


class Log(Reader, Protocol):
    """A durable, totally ordered log. Safe for threads, processes and forks. A reader never sees
    position n + 1 without n."""

    store_id: str
    """Random, fixed at creation; prefix of the ids of records written without one."""

    @property
    def locks(self) -> Locks:
        """Who works on what: consumers' leases, the upkeep of segments, readers of files."""
        ...

    before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None
    """Called inside each appending transaction, before anything is stored; may change the drafts, add
    more after them (the answers are for those given), or raise, which stores nothing. What it appends
    itself isn't shown to it again. Quotas and experiments stand here."""

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """One transaction of its own. Concurrent callers may share one commit."""
        ...

    def append_later(self, draft: Draft) -> Pending:
        """Return at once; commit in groups. `flush` waits for all of them."""
        ...

    def flush(self) -> None:
        """Wait until every buffered write is committed. Raises the error of one that was refused,
        if nobody has had it from `result()`; cheap when nothing is buffered."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Commits at the end of the block, rolls back on an exception. Buffered writes of this
        process are committed before it. One at a time over all processes, fairly: a second one, or
        an append, inside it in the same thread raises StorageError."""
        ...

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Several reads of one moment. Blocks no writer."""
        ...

    def changes(self) -> int:
        """A number that differs after any commit by anyone; microseconds to ask."""
        ...

    def wait(self, changes: int, timeout: float | None = None) -> bool:
        """Sleep until `changes()` differs from the number given (True) or the timeout in seconds
        (False). At once for writes of this process, within 50 ms for those of others."""
        ...

    def wake(self) -> None:
        """Let every `wait` of this process return now."""
        ...

    def size(self) -> int:
        """Bytes on disk."""
        ...

    def vacuum(self) -> None:
        """Give the space of trimmed and erased records back; their bytes are gone from the disk."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the log's own structure, in sentences; empty when nothing is."""
        ...

    def close(self) -> None:
        """Flush, and leave everything committed. Closing twice is fine; any later call raises
        StorageError."""
        ...
