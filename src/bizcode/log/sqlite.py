"""The embedded log: SQLite in WAL mode, many threads and processes at once."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import BizError, Conflict, StorageError
from ..record import Draft, Stored
from .buffer import Buffer
from .connection import SqliteReader, connect
from .interface import Appended, Reader, Transaction
from .locks import Turnstile
from .schema import check_directory, explain, prepare

__all__ = ["SqliteLog", "open_log"]

_INSERT = (
    "INSERT INTO records (kind, name, time, data, user, id, entity, version, value, experiments) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_OPEN: weakref.WeakSet[SqliteLog] = weakref.WeakSet()


def open_log(directory: str | Path, durability: str = "commit") -> SqliteLog:
    """The log of a directory, created on first use. Raises StorageError."""
    return SqliteLog(Path(directory), durability)


class SqliteTransaction(SqliteReader):
    """Reads and writes of the one open write transaction."""

    def __init__(self, log: SqliteLog, connection: Any) -> None:
        super().__init__(connection, log.store_id)
        self._log = log

    def cached(self, space: str) -> Mapping[str, bytes]:
        if self._log._touched:
            return dict(self.scan(space))
        return self._log._writer_cache(space)

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        hook = self._log.before_append
        if hook is not None:
            drafts = hook(self, drafts)
        if len(drafts) > 16:
            return self._append_many(drafts)
        return [self._append(draft) for draft in drafts]

    def _append(self, draft: Draft) -> Appended:
        kind, name, time, data, user, id, entity, value, experiments, expect = draft
        connection = self._connection
        if id is not None:
            known = self.position_of(id)
            if known is not None:
                return Appended(known, None, None, True)
        version = None
        if entity is not None:
            version = self._next_version(entity, expect, self.entity_version(entity))
        connection.execute(_INSERT, (kind, name, time, data, user, id, entity, version, value, experiments))
        position = connection.last_insert_rowid()
        if id is not None:
            connection.execute("INSERT INTO ids VALUES (?, ?)", (id, position))
        return Appended(position, version, experiments)

    def _next_version(self, entity: str, expect: int | None, version: int) -> int:
        if expect is not None and expect != version:
            raise Conflict(
                f"{entity} is at version {version}, not at the expected {expect}: another got there first"
            )
        return version + 1

    def _append_many(self, drafts: Sequence[Draft]) -> list[Appended]:
        """The same in bulk: ids and versions looked up first, then one executemany."""
        versions: dict[str, int] = {}
        fresh: dict[str, int] = {}
        rows: list[tuple[Any, ...]] = []
        answers: list[Any] = []
        for draft in drafts:
            kind, name, time, data, user, id, entity, value, experiments, expect = draft
            if id is not None:
                if id in fresh:
                    answers.append(fresh[id])
                    continue
                known = self.position_of(id)
                if known is not None:
                    answers.append(Appended(known, None, None, True))
                    continue
                fresh[id] = len(rows)
            version = None
            if entity is not None:
                if entity not in versions:
                    versions[entity] = self.entity_version(entity)
                version = versions[entity] = self._next_version(entity, expect, versions[entity])
            answers.append((version, experiments))
            rows.append((kind, name, time, data, user, id, entity, version, value, experiments))
        if not rows:
            return answers
        self._connection.executemany(_INSERT, rows)
        first = self._connection.last_insert_rowid() - len(rows) + 1
        if fresh:
            self._connection.executemany(
                "INSERT INTO ids VALUES (?, ?)", ((id, first + at) for id, at in fresh.items())
            )
        result = []
        position = first
        for answer in answers:
            if type(answer) is tuple:
                result.append(Appended(position, answer[0], answer[1], False))
                position += 1
            elif type(answer) is int:
                result.append(Appended(first + answer, None, None, True))
            else:
                result.append(answer)
        return result

    def put(self, space: str, key: str, value: bytes) -> None:
        self._log._touched = True
        self._connection.execute(
            "INSERT INTO kv VALUES (?, ?, ?) ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
            (space, key, bytes(value)),
        )

    def delete(self, space: str, key: str) -> bool:
        self._log._touched = True
        self._connection.execute("DELETE FROM kv WHERE space = ? AND key = ?", (space, key))
        return self._connection.changes() > 0

    def clear(self, space: str, prefix: str = "") -> int:
        self._log._touched = True
        if not prefix:
            self._connection.execute("DELETE FROM kv WHERE space = ?", (space,))
            return self._connection.changes()
        keys = [key for key, _ in self.scan(space, prefix)]
        self._connection.executemany(
            "DELETE FROM kv WHERE space = ? AND key = ?", ((space, key) for key in keys)
        )
        return len(keys)

    def trim(self, until: int) -> None:
        self._connection.execute("DELETE FROM records WHERE position <= ? AND entity IS NULL", (until,))
        self._connection.execute(
            "UPDATE meta SET value = max(CAST(value AS INTEGER), ?) WHERE key = 'sealed_to'", (until,)
        )

    def erase(self, positions: Iterable[int]) -> int:
        wanted = list(positions)
        self._connection.execute("PRAGMA secure_delete = ON")
        gone = 0
        try:
            for position in wanted:
                self._connection.execute("DELETE FROM records WHERE position = ?", (position,))
                gone += self._connection.changes()
            for n in range(0, len(wanted), 500):
                part = wanted[n : n + 500]
                self._connection.execute(
                    f"DELETE FROM ids WHERE position IN ({','.join('?' * len(part))})", tuple(part)
                )
        finally:
            self._connection.execute("PRAGMA secure_delete = FAST")
        return gone


class _Call:
    """One caller's drafts on their way into a shared commit."""

    __slots__ = ("done", "drafts", "error", "result")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.result: list[Appended] = []
        self.error: BaseException | None = None
        self.done = False


class SqliteLog:
    """A log in a directory's `log.db`."""

    def __init__(self, directory: Path, durability: str = "commit") -> None:
        self.directory = directory
        self.durability = durability
        self.before_append: Callable[[Transaction, Sequence[Draft]], Sequence[Draft]] | None = None
        self._file = check_directory(directory)
        self._closed = False
        self.readonly = False
        self._open()
        self._pid = os.getpid()
        _OPEN.add(self)

    def _open(self) -> None:
        import apsw

        self._lock = threading.RLock()
        self._condition = threading.Condition()
        self._commits = 0
        self._calls: deque[_Call] = deque()
        self._local = threading.local()
        self._readers: list[Any] = []
        self._spaces: dict[str, tuple[int, Mapping[str, bytes]]] = {}
        self._reader_spaces: dict[str, tuple[Any, Mapping[str, bytes]]] = {}
        self._touched = False
        self._watching = threading.Lock()
        self._watch: Any = None
        self._wakes = 0
        self._buffer: Buffer | None = None
        try:
            try:
                self._turnstile: Turnstile | None = Turnstile(self.directory / "locks")
                self._turnstile.acquire()
                try:
                    self._writer = connect(self._file, self.durability)
                    self.store_id, _ = prepare(self._writer, self._file)
                finally:
                    self._turnstile.release()
            except (apsw.ReadOnlyError, apsw.CantOpenError, OSError) as error:
                if not self._file.exists():
                    raise StorageError(f"{self.directory} can't be written: {error}") from error
                self.readonly = True
                self._turnstile = None
                self._writer = connect(self._file, self.durability, readonly=True)
                self.store_id = self._writer.execute(
                    "SELECT value FROM meta WHERE key = 'store_id'"
                ).fetchone()[0]
        except apsw.Error as error:
            raise explain(error, self._file) from error
        self._tx = SqliteTransaction(self, self._writer)
        self._depth = 0
        self._foreign = 0

    # forks and threads

    def _check(self) -> None:
        if self._closed:
            raise StorageError("the business is closed: open it again to go on")
        if self._pid != os.getpid():
            self._reopen()

    def _reopen(self) -> None:
        # SQLite's connections must not cross a fork: leak them unused, and open new ones.
        _LEAKED.append((self._writer, self._readers, self._turnstile, self._local))
        self._open()
        self._pid = os.getpid()

    def _reader(self) -> SqliteReader:
        self._check()
        reader = getattr(self._local, "reader", None)
        if reader is None:
            connection = connect(self._file, self.durability, self.readonly)
            reader = self._local.reader = SqliteReader(connection, self.store_id)
            with self._condition:
                self._readers.append(connection)
        return reader

    # writing

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        self._check()
        if self._turnstile is None:
            raise StorageError(f"{self.directory} can't be written: the directory or disk is read-only")
        with self._lock:
            if self._depth:
                raise StorageError("a transaction of this log is open in this thread already")
            self._turnstile.acquire()
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
                self._turnstile.release()

    def _begin(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._touched = False

    def _commit(self) -> None:
        self._writer.execute("COMMIT")
        if self._touched:
            self._spaces.clear()
            self._touched = False
        self._commits += 1

    def _rollback(self) -> None:
        self._touched = False
        self._spaces.clear()
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _woken(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        call = _Call(drafts)
        self._calls.append(call)
        try:
            with self._write_lock():
                # Whoever holds the lock commits for all who wait.
                if not call.done:
                    calls = []
                    while self._calls and len(calls) < 1_000:
                        calls.append(self._calls.popleft())
                    self._commit_calls(calls)
        except BaseException:
            if not call.done and call in self._calls:
                self._calls.remove(call)
            raise
        if call.error is not None:
            raise call.error
        self._woken()
        return call.result

    def _commit_calls(self, calls: list[_Call]) -> None:
        import apsw

        try:
            if len(calls) == 1:
                self._begin()
                calls[0].result = self._tx.append(calls[0].drafts)
                self._commit()
            else:
                self._begin()
                for call in calls:
                    self._writer.execute("SAVEPOINT caller")
                    try:
                        call.result = self._tx.append(call.drafts)
                    except BizError as error:
                        call.error = error
                        self._writer.execute("ROLLBACK TO caller")
                    self._writer.execute("RELEASE caller")
                self._commit()
        except BaseException as error:
            self._rollback()
            told = explain(error, self._file) if isinstance(error, apsw.Error) else error
            for call in calls:
                call.error = call.error or told
            if not isinstance(error, Exception):
                raise
        finally:
            for call in calls:
                call.done = True

    def append_later(self, draft: Draft) -> Any:
        self._check()
        with self._condition:
            if self._buffer is None:
                self._buffer = Buffer(self.append)
        return self._buffer.add(draft)

    def flush(self) -> None:
        self._check()
        if self._buffer is not None:
            self._buffer.flush()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        import apsw

        self.flush()
        try:
            with self._write_lock():
                try:
                    self._begin()
                    yield self._tx
                    self._commit()
                except BaseException:
                    self._rollback()
                    raise
        except apsw.Error as error:
            raise explain(error, self._file) from error
        self._woken()

    # reading

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        reader = self._reader()
        connection = reader._connection
        if connection.in_transaction:
            yield reader
            return
        connection.execute("BEGIN")
        try:
            # The transaction's moment is that of its first read.
            connection.execute("SELECT 1 FROM meta").fetchone()
            yield reader
        finally:
            connection.execute("COMMIT")

    def head(self) -> int:
        return self._reader().head()

    def sealed_to(self) -> int:
        return self._reader().sealed_to()

    def read(self, after: int, until: int | None = None, limit: int | None = None) -> list[Stored]:
        return self._reader().read(after, until, limit)

    def at(self, positions: Iterable[int]) -> list[Stored]:
        return self._reader().at(positions)

    def position_of(self, id: str) -> int | None:
        return self._reader().position_of(id)

    def entity_version(self, entity: str) -> int:
        return self._reader().entity_version(entity)

    def entity_events(
        self, entity: str, after_version: int = 0, until_version: int | None = None
    ) -> Iterator[Stored]:
        return self._reader().entity_events(entity, after_version, until_version)

    def entities(self, prefix: str, after: str = "", limit: int | None = None) -> list[str]:
        return self._reader().entities(prefix, after, limit)

    def get(self, space: str, key: str) -> bytes | None:
        return self._reader().get(space, key)

    def scan(
        self, space: str, prefix: str = "", after: str = "", limit: int | None = None
    ) -> list[tuple[str, bytes]]:
        return self._reader().scan(space, prefix, after, limit)

    def cached(self, space: str) -> Mapping[str, bytes]:
        changes = self.changes()
        known = self._reader_spaces.get(space)
        if known is None or known[0] != changes:
            known = (changes, dict(self._reader().scan(space)))
            self._reader_spaces[space] = known
        return known[1]

    def _writer_cache(self, space: str) -> Mapping[str, bytes]:
        """A space as the open transaction sees it, read again when another process has committed."""
        foreign = self._writer.execute("PRAGMA data_version").fetchone()[0]
        if foreign != self._foreign:
            self._foreign = foreign
            self._spaces.clear()
        known = self._spaces.get(space)
        if known is None:
            known = self._spaces[space] = (foreign, dict(self._tx.scan(space)))
        return known[1]

    # following

    def changes(self) -> int:
        self._check()
        # One connection that never writes, for all threads: its data_version moves with every commit
        # by any other connection, and means nothing beside another connection's.
        with self._watching:
            if self._watch is None:
                self._watch = connect(self._file, self.durability, self.readonly)
                self._readers.append(self._watch)
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, changes: int, timeout: float | None = None) -> bool:
        import time

        end = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            woken = self._wakes
            while True:
                if self.changes() != changes or self._wakes != woken:
                    return self._wakes == woken or self.changes() != changes
                left = 0.02 if end is None else min(0.02, end - time.monotonic())
                if left <= 0:
                    return False
                self._condition.wait(left)

    def wake(self) -> None:
        with self._condition:
            self._wakes += 1
            self._condition.notify_all()

    def size(self) -> int:
        self._check()
        return sum(
            path.stat().st_size
            for path in (self._file, *(Path(f"{self._file}{end}") for end in ("-wal", "-shm")))
            if path.exists()
        )

    def vacuum(self) -> None:
        """Give the space of what was trimmed back to the disk, and overwrite what was erased."""
        with self._write_lock():
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.execute("VACUUM")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> list[str]:
        found = [row[0] for row in self._reader()._rows("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        if self._closed:
            return
        if self._pid == os.getpid():
            if self._buffer is not None:
                self._buffer.close()
            self._closed = True
            self.wake()
            with self._lock:
                for connection in self._readers:
                    connection.close()
                self._writer.close()
                if self._turnstile is not None:
                    self._turnstile.close()
        self._closed = True


_LEAKED: list[Any] = []
