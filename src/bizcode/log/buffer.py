"""Writes that return at once and are committed in groups by a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import BizError
from ..record import Draft
from .interface import Appended

__all__ = ["Buffer"]

GROUP = 2_000
DELAY = 0.02
"""Seconds that a write waits for others at most."""


class _Pending:
    __slots__ = ("_buffer", "_done", "answer", "draft", "error")

    def __init__(self, buffer: Buffer, draft: Draft) -> None:
        self._buffer = buffer
        self.draft = draft
        self.answer: Appended | None = None
        self.error: BaseException | None = None

    def result(self) -> Appended:
        if self.answer is None and self.error is None:
            self._buffer.flush()
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


class Buffer:
    """Collects drafts; `append` commits them."""

    def __init__(self, append: Callable[[Sequence[Draft]], list[Appended]]) -> None:
        self._append = append
        self._lock = threading.Lock()
        self._commit = threading.Lock()
        self._waiting: list[_Pending] = []
        self._filled = threading.Event()
        self._closed = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bizcode-buffer", daemon=True)
        self._thread.start()

    def add(self, draft: Draft) -> Any:
        pending = _Pending(self, draft)
        with self._lock:
            self._waiting.append(pending)
            full = len(self._waiting) >= GROUP
        if not self._filled.is_set():
            self._filled.set()
        if full:
            self.flush(raising=False)
        return pending

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._filled.wait()
            pause.wait(DELAY)
            self._filled.clear()
            self.flush(raising=False)

    def flush(self, raising: bool = True) -> None:
        """Commit what waits. A failed draft's error is raised by its own `result`, and by the next flush."""
        with self._commit:
            with self._lock:
                group, self._waiting = self._waiting, []
            if group:
                self._write(group)
            failed, self._failed = (self._failed, None) if raising else (None, self._failed)
        if failed is not None:
            raise failed

    def _write(self, group: list[_Pending]) -> None:
        try:
            answers = self._append([pending.draft for pending in group])
        except BizError as error:
            if len(group) == 1:
                group[0].error = self._failed = error
                return
            # One bad draft must not take the others with it.
            for pending in group:
                self._write([pending])
            return
        except BaseException as error:
            for pending in group:
                pending.error = error
            self._failed = error
            raise
        for pending, answer in zip(group, answers, strict=True):
            pending.answer = answer

    def close(self) -> None:
        self._closed = True
        self._filled.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)
        self.flush()
