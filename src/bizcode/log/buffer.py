"""Writes that return before their commit."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ..errors import StorageError
from ..record import Draft
from .bells import new_bell, ring
from .interface import Appended

__all__ = ["Buffer", "Later"]

DELAY = 0.005
"""Seconds that the first buffered write waits for company."""

GROUP = 10_000
"""At most so many in one commit."""

LIMIT = 50_000
"""With more than so many waiting, the next caller commits them itself."""


class Later:
    """A buffered write: `result()` waits for its commit."""

    __slots__ = ("_answer", "_buffer", "_error", "draft")

    def __init__(self, buffer: Buffer, draft: Draft) -> None:
        self.draft = draft
        self._buffer = buffer
        self._answer: Appended | None = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Committed or failed."""
        return self._answer is not None or self._error is not None

    def result(self) -> Appended:
        """Its position; waits for the commit, raises what the commit raised."""
        if not self.done:
            self._buffer.drain()
        if self._error is not None:
            self._buffer.told(self)
            raise self._error
        if self._answer is None:
            raise StorageError("this write was buffered before a fork and belongs to the parent process")
        return self._answer


class Buffer:
    """Drafts in the order of their writing, committed in groups by a thread of its own.

    An interrupt may come between any two steps, so a draft leaves the line only when it has its answer.
    """

    def __init__(self, append: Callable[[Sequence[Draft]], list[Appended]]) -> None:
        self._append = append
        self._failed: Later | None = None
        self._stopped = False
        self._reset()

    def _reset(self) -> None:
        self._waiting: deque[Later] = deque()
        self._draining = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._news = new_bell()
        self._hurry = new_bell()

    def add(self, draft: Draft) -> Later:
        """Keep a draft for the next commit."""
        later = Later(self, draft)
        waiting = self._waiting
        waiting.append(later)
        if self._news.locked():
            ring(self._news)
            if self._thread is None:
                self._start()
        if len(waiting) > LIMIT:
            self.drain()
        return later

    def drain(self) -> None:
        """Commit, in the calling thread, everything that was added until now."""
        if not self._waiting and not self._draining.locked():
            return
        with self._draining:
            last = list(self._waiting)[-1:]
            while last and not last[0].done:
                self._commit()

    def told(self, later: Later) -> None:
        """Its error has reached its writer."""
        if self._failed is later:
            self._failed = None

    def check(self) -> None:
        """Raise the error of a buffered write that nobody has asked for."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed._error  # type: ignore[misc]

    def _commit(self) -> None:
        # Buffered drafts carry ids: one that was committed before an interrupt is found, not stored twice.
        try:
            self._settle(list(islice(self._waiting, GROUP)))
        finally:
            while self._waiting and self._waiting[0].done:
                self._waiting.popleft()

    def _settle(self, group: list[Later]) -> None:
        """Commit a group; one that is refused is cut in halves until only the culprits have failed."""
        try:
            answers = self._append([later.draft for later in group])
        except Exception as error:  # noqa: BLE001
            if len(group) == 1 or isinstance(error, StorageError):
                for later in group:
                    later._error = error
                if self._failed is None:
                    self._failed = group[0]
                return
            middle = len(group) // 2
            self._settle(group[:middle])
            self._settle(group[middle:])
            return
        for later, answer in zip(group, answers, strict=True):
            later._answer = answer

    # the thread

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="bizcode-log", daemon=True)
                self._thread.start()
                _drain_at_end_of_child(self)

    def _run(self) -> None:
        while not self._stopped:
            self._news.acquire()
            self._hurry.acquire(timeout=DELAY)
            self.drain()

    def stop(self) -> None:
        """Commit what is left and let the thread end."""
        self._stopped = True
        ring(self._hurry)
        ring(self._news)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.drain()

    def after_fork(self) -> None:
        """In the child: what waits is the parent's to commit, and the thread is gone."""
        self._failed = None
        self._reset()


def _drain_at_end_of_child(buffer: Buffer) -> None:
    """A child of multiprocessing leaves without the interpreter's exit functions."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, buffer.drain, exitpriority=100)
