"""From many requests to few commits: what arrives while a commit runs is committed together by the next one.

A request is answered after its events are committed, so a killed server loses nothing it acknowledged.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .. import values
from ..errors import BizError, QuotaExceeded, StorageError
from ..record import EVENT, Draft
from ..writer import check_id, check_user
from . import flags
from .refused import Refused

if TYPE_CHECKING:
    from ..business import Business

__all__ = ["Incoming", "Intake", "Rejected"]

MOST_WAITING = 200_000
_GROUP = 5_000
_MERGES = 100_000
_NAMES = 10_000
_NOBODY = frozenset(
    [
        "anonymous",
        "guest",
        "distinct_id",
        "distinctid",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "null",
        "none",
        "nan",
        "true",
        "false",
        "[object",
        "object]",
        "0",
    ]
) | {"[object object]"}
"""What broken pages send in place of an id. Merging by it would make all of them one person."""


class Incoming(NamedTuple):
    """One event of a client. `at` is microseconds since 1970, None for now. `merge` is (alias, user, always): two
    ids of one person; unless `always`, an alias that already belongs to another stays with it. `shown` is
    (experiment, variant), as the client names them."""

    event: Any
    data: Any
    at: int | None = None
    id: Any = None
    user: Any = None
    merge: tuple[str, str, bool] | None = None
    shown: tuple[Any, Any] | None = None


class Rejected(NamedTuple):
    """An event that was not stored, by its place in the request."""

    index: int
    message: str


@dataclass(eq=False, slots=True)
class _Job:
    incoming: Sequence[Incoming]
    future: asyncio.Future
    loop: asyncio.AbstractEventLoop
    drafts: list[Draft] = field(default_factory=list)
    merges: list[tuple[str, str, bool]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    error: BaseException | None = None


class Intake:
    """The one writer of a business's incoming events, on a thread of its own."""

    def __init__(self, biz: Business) -> None:
        self._biz = biz
        self._waiting: deque[_Job] = deque()
        self._count = 0
        self._wake = threading.Condition()
        self._closed = False
        self._merged: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._names: set[str] = set()

    async def put(self, incoming: Sequence[Incoming]) -> list[Rejected]:
        """Store the events; those that can't be, and why.

        Raises:
            QuotaExceeded, StorageError: nothing was stored. Refused: too much is waiting already.
        """
        loop = asyncio.get_running_loop()
        job = _Job(incoming, loop.create_future(), loop)
        with self._wake:
            if self._closed:
                raise Refused(503, "the server is closing", {"retry-after": "5"})
            if self._count + len(incoming) > MOST_WAITING and self._waiting:
                raise Refused(503, "too many events are waiting to be stored", {"retry-after": "2"})
            self._waiting.append(job)
            self._count += len(incoming)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bizcode-intake", daemon=True)
                self._thread.start()
            self._wake.notify()
        return await job.future

    def close(self) -> None:
        """Store what waits, then end."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if not self._waiting:
                    return
                jobs, size = [], 0
                while self._waiting and (not jobs or size < _GROUP):
                    size += len(self._waiting[0].incoming)
                    jobs.append(self._waiting.popleft())
                self._count -= size
            try:
                self._store(jobs)
            except BaseException as error:  # noqa: BLE001 - each waiting request is told
                for job in jobs:
                    job.error = job.error or error
            for loop in {job.loop for job in jobs}:
                mine = [job for job in jobs if job.loop is loop]
                try:
                    loop.call_soon_threadsafe(_answer, mine)
                except RuntimeError:
                    continue  # the loop has ended, and with it whoever asked

    def _store(self, jobs: list[_Job]) -> None:
        for job in jobs:
            self._draft(job)
        drafts = [draft for job in jobs for draft in job.drafts]
        store = self._biz.store
        if drafts:
            try:
                store.log.append(drafts)
            except QuotaExceeded as error:
                if len(jobs) == 1:
                    jobs[0].error = error
                else:
                    # Together they pass the quota; one after the other some may still fit.
                    for job in jobs:
                        self._alone(job)
            store.writer.written(len(drafts))
        for job in jobs:
            if job.error is None:
                for merge in job.merges:
                    self._merge(*merge)

    def _alone(self, job: _Job) -> None:
        try:
            if job.drafts:
                self._biz.store.log.append(job.drafts)
        except (QuotaExceeded, StorageError) as error:
            job.error = error

    def _draft(self, job: _Job) -> None:
        store = self._biz.store
        writer, tz, now, names = store.writer, store.tz, store.now(), self._names
        for index, (event, data, at, id, user, merge, shown) in enumerate(job.incoming):
            try:
                if event not in names:
                    values.name(event, "an event")
                    if len(names) < _NAMES:
                        names.add(event)
                plain, text = values.encode(data, tz)
                carried = None if shown is None else flags.shown(self._biz, *shown)
                draft = Draft(
                    EVENT,
                    event,
                    now if at is None else at,
                    text,
                    writer.user_of(plain) if user is None else check_user(user),
                    None if id is None else check_id(id),
                    experiments=None if carried is None else orjson.dumps(carried).decode(),
                )
            except BizError as error:
                job.rejected.append(Rejected(index, str(error)))
                continue
            job.drafts.append(draft)
            if merge is not None:
                job.merges.append(merge)

    def _merge(self, alias: str, user: str, always: bool) -> None:
        if alias == user or alias.lower() in _NOBODY or user.lower() in _NOBODY:
            return
        if (alias, user) in self._merged:
            return
        if self._wanted(alias, user, always):
            self._biz.identify(alias, user)
        self._merged[alias, user] = None
        if len(self._merged) > _MERGES:
            self._merged.popitem(last=False)

    def _wanted(self, alias: str, user: str, always: bool) -> bool:
        with self._biz.store.engine.session() as session:
            names = dict(
                session.cursor.execute(
                    f'SELECT alias, "user" FROM {session.merges} WHERE alias IN ($1, $2)', [alias, user]
                ).fetchall()
            )
        if names.get(alias, alias) == names.get(user, user):
            return False
        return always or alias not in names


def _answer(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.rejected)
