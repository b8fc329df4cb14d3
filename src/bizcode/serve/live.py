"""Server-sent events: what is recorded from now on, and views as they change.

One thread waits for the log to move and wakes every open connection; each reads what is new for it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ..errors import BizError, StorageError
from ..query.base import awaited
from ..record import EVENT, MEASURE, record_of
from . import body
from .api.encode import dumps, plain
from .api.router import HEADERS
from .refused import Refused

if TYPE_CHECKING:
    from ..business import Business
    from .application import App

__all__ = ["Live", "Pulse"]

logger = logging.getLogger("bizcode.serve")
MOST_OPEN = 200
MOST_BEHIND = 5_000
_LIMIT = 500
_PACE = 0.25
_BEAT = 15.0
_LOOK = 5.0


class Pulse:
    """Wakes the connections of one business when its log has moved."""

    def __init__(self, biz: Business) -> None:
        self._log = biz.store.log
        self._lock = threading.Lock()
        self._open: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._thread: threading.Thread | None = None

    def join(self) -> asyncio.Event:
        """An event that is set whenever something was committed."""
        event = asyncio.Event()
        with self._lock:
            self._open[event] = asyncio.get_running_loop()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bizcode-pulse", daemon=True)
                self._thread.start()
        return event

    def leave(self, event: asyncio.Event) -> None:
        with self._lock:
            self._open.pop(event, None)

    def wake(self) -> None:
        """Let every connection look now."""
        with self._lock:
            waiting = list(self._open.items())
        for event, loop in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                self.leave(event)  # its loop has ended

    def _run(self) -> None:
        try:
            changes = self._log.changes()
            while True:
                moved = self._log.wait(changes, 1.0)
                with self._lock:
                    if not self._open:
                        self._thread = None
                        return
                if moved:
                    changes = self._log.changes()
                    self.wake()
        except StorageError:
            with self._lock:
                self._thread = None


class Live:
    """Answers /api/v1/live."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._pulses: dict[int, Pulse] = {}
        self._count = 0
        self.stopping = False

    def stop(self) -> None:
        """End every connection."""
        self.stopping = True
        for pulse in list(self._pulses.values()):
            pulse.wake()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            raise Refused(405, "this path takes GET", {"allow": "GET"})
        headers = body.headers_of(scope)
        principal = self._app.gate.principal(scope, headers)
        biz = await self._app.opened(principal.tenant)
        wanted = _wanted(scope, headers)
        for name in wanted["views"]:
            biz.view[name]._query()
        if self._count >= MOST_OPEN:
            raise Refused(503, "too many live connections are open", {"retry-after": "30"})
        self._count += 1
        pulse = self._pulses.setdefault(id(biz), Pulse(biz))
        event = pulse.join()
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        *HEADERS,
                        (b"content-type", b"text/event-stream"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
            await self._tell(biz, wanted, event, gone, send)
        finally:
            gone.cancel()
            pulse.leave(event)
            self._count -= 1

    async def _tell(
        self, biz: Any, wanted: dict[str, Any], event: asyncio.Event, gone: Any, send: Any
    ) -> None:
        reader = _Reader(biz, wanted)
        beat = time.monotonic()
        while not gone.done() and not self.stopping:
            event.clear()
            try:
                found = await awaited(biz.store.engine, reader.news)
            except BizError as error:
                found = _event("error", {"message": str(error)})
            if found or time.monotonic() - beat > _BEAT:
                await send(
                    {"type": "http.response.body", "body": found or b": still here\n\n", "more_body": True}
                )
                beat = time.monotonic()
            if not reader.behind:
                await asyncio.wait({gone}, timeout=_PACE)
                await _either(event, gone, _LOOK)
        await send({"type": "http.response.body", "body": b""})


class _Reader:
    """What one connection was told so far."""

    def __init__(self, biz: Any, wanted: dict[str, Any]) -> None:
        self._biz = biz
        self._views = dict.fromkeys(wanted["views"])
        self._names = {EVENT: set(wanted["events"]), MEASURE: set(wanted["measures"])}
        self._at = wanted["after"] if wanted["after"] is not None else biz.store.log.head()
        self._head: int | None = None
        self.behind = False

    def news(self) -> bytes:
        """The messages since the last look."""
        store, parts = self._biz.store, []
        with store.log.snapshot() as reader:
            head = reader.head()
            if head != self._head:
                parts.append(_event("head", {"position": head}))
                self._head = head
            if any(self._names.values()) and head > self._at:
                parts += self._records(store, reader, head)
            else:
                self._at = max(self._at, head)
                self.behind = False
        for name, known in self._views.items():
            rows = dumps([plain(row) for row in self._biz.view[name].limit(100).run()])
            if rows != known:
                self._views[name] = rows
                parts.append(
                    b"event: view\ndata: " + b'{"name":' + dumps(name) + b',"rows":' + rows + b"}\n\n"
                )
        return b"".join(parts)

    def _records(self, store: Any, reader: Any, head: int) -> list[bytes]:
        parts = []
        if head - self._at > MOST_BEHIND:
            parts.append(_event("gap", {"after": self._at, "until": head - MOST_BEHIND}))
            self._at = head - MOST_BEHIND
        sealed = store.segments.catalog(reader).sealed_to
        rows: list[Any] = []
        if sealed > self._at:
            for batch in store.segments.rows(self._at, min(sealed, head), {EVENT, MEASURE}, None, _LIMIT):
                rows = batch
                break
            if not rows:
                self._at = min(sealed, head)
        if not rows:
            rows = reader.read(self._at, head, _LIMIT)
        for row in rows:
            names = self._names.get(row.kind)
            if names and ("*" in names or row.name in names):
                parts.append(_event("record", plain(record_of(row, store.log.store_id)), row.position))
        self._at = rows[-1].position if rows else head
        self.behind = self._at < head
        return parts


def _event(kind: str, data: Any, id: int | None = None) -> bytes:
    head = b"" if id is None else b"id: %d\n" % id
    return head + b"event: " + kind.encode() + b"\ndata: " + dumps(data) + b"\n\n"


def _wanted(scope: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"events": [], "measures": [], "views": [], "after": None}
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=100)
    for name, value in pairs:
        if name not in found:
            raise Refused(400, f"there is no parameter {name[:60]!r}; live takes {', '.join(found)}")
        if name != "after":
            found[name].append(value)
        elif not value.isdigit() or len(value) > 18:
            raise Refused(400, f"after is a position, not {value[:40]!r}")
        else:
            found["after"] = int(value)
    last = headers.get("last-event-id", "")
    if last.isdigit() and len(last) <= 18:
        found["after"] = int(last)
    return found


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _either(event: asyncio.Event, gone: Any, timeout: float) -> None:
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
