"""`bizcode.serve.app(biz)`: the ASGI application."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue
from .api.router import Api
from .gate import Gate
from .intake import Intake
from .limits import Limiter
from .live import Live
from .pages import Pages
from .wires import Wires

if TYPE_CHECKING:
    from ..business import Business

__all__ = ["App", "app"]

MAX_BODY = 20 * 1024 * 1024


def app(
    biz: Business, *, token: str | None = None, rate: float | None = 1_000, max_body: int = MAX_BODY
) -> App:
    """An ASGI application over a business: ingestion, JSON API and dashboard.

    Args:
        biz: an open business; it stays the caller's to close.
        token: what opens the dashboard and the API. None: only requests of this machine get in, and those
            with a token of `bizcode keys`. Behind a proxy on the same machine give one.
        rate: requests a second that one address may send, twice that at once; None: no limit.
        max_body: bytes of a request's body, packed or unpacked.
    Raises:
        InvalidValue: a token that is too short, a rate or size that is no positive number.
    """
    return App(biz, token=token, rate=rate, max_body=max_body)


class App:
    """The application; `close()` stores what waits. Made by `app`."""

    def __init__(
        self, biz: Business, *, token: str | None = None, rate: float | None = 1_000, max_body: int = MAX_BODY
    ) -> None:
        for what, number in (("rate", rate), ("max_body", max_body)):
            if number is not None and (isinstance(number, bool) or not number > 0):
                raise InvalidValue(f"{what}= is a number greater than 0, not {number!r}")
        self.biz = biz
        self.gate = Gate(biz.store, token)
        self.limiter = None if rate is None else Limiter(rate, rate * 2)
        self.max_body = max_body
        self.live = Live(self)
        self._wires = Wires(self)
        self._api = Api(self)
        self._pages = Pages(self)
        self._lock = threading.Lock()
        self._tenants: dict[str, Business] = {}
        self._intakes: dict[int, Intake] = {}

    def business(self, tenant: str | None) -> Business:
        """A tenant's business, opened at first use; None: the app's own."""
        if tenant is None or tenant == self.biz.store.tenant:
            return self.biz
        with self._lock:
            found = self._tenants.get(tenant)
            if found is None:
                store = self.biz.store
                found = type(self.biz)(
                    store.root,
                    tenant=tenant,
                    clock=store.clock,
                    durability=store.durability,
                    worker=store.worker,
                    segments=store.segments_url or None,
                )
                self._tenants[tenant] = found
            return found

    async def opened(self, tenant: str | None) -> Business:
        """The same; a store that must be opened first is opened on another thread."""
        if tenant is None or tenant == self.biz.store.tenant or tenant in self._tenants:
            return self.business(tenant)
        return await asyncio.to_thread(self.business, tenant)

    def intake(self, biz: Business) -> Intake:
        """The writer of a business's incoming events."""
        found = self._intakes.get(id(biz))
        if found is None:
            with self._lock:
                found = self._intakes.setdefault(id(biz), Intake(biz))
        return found

    def close(self) -> None:
        """Store what waits, end live connections and close the tenants' businesses. Twice is fine."""
        self.live.stop()
        for intake in self._intakes.values():
            intake.close()
        for biz in self._tenants.values():
            biz.close()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        path = path.rstrip("/")
        if self._wires.answers(path):
            await self._wires(scope, receive, send, path)
        elif path == "/api" or path.startswith("/api/"):
            await self._api(scope, receive, send, path)
        else:
            await self._pages(scope, receive, send, path)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return
