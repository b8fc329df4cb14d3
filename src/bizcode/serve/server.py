"""Serve a business by uvicorn: in the foreground for `bizcode serve`, in the background for tests and notebooks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from ..errors import BizError
from .application import App, app
from .gate import is_loopback
from .protocol import LARGEST_HEAD, Protocol

if TYPE_CHECKING:
    from ..business import Business

__all__ = ["PORT", "background", "run", "write_key"]

PORT = 8484
_GRACE = 3


def run(
    biz: Business,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    started: Callable[[str], Any] | None = None,
    **options: Any,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: the address to listen on. Any but a loopback one demands a token.
        port: 0 takes any that is free.
        token: see `app`; None: $BIZCODE_TOKEN, if set.
        started: called with the URL once it is listening.
        options: as for `app`.
    Raises:
        BizError: no token where one is demanded, or an address that can't be listened on.
    """
    token = token or os.environ.get("BIZCODE_TOKEN") or None
    if token is None and not is_loopback(host):
        raise BizError(
            f"--host {host} can be reached by others, so it demands a token of 16 characters or more: "
            "give --token, or better set BIZCODE_TOKEN"
        )
    made = app(biz, token=token, **options)
    listener = _listen(host, port)
    config = _config(made)
    server = _Server(config, made)

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        if server.started and started is not None:
            started(_url(host, listener))
        await task

    # uvicorn raises the signal again once it has ended; it has been obeyed by then.
    handlers = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        _loop(config, serve)
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        made.close()
        listener.close()


@contextmanager
def background(biz: Business, *, port: int = 0, **options: Any) -> Iterator[str]:
    """Serve on loopback by a thread, for as long as the block lasts; gives the URL.

    Args:
        port, options: as for `run` and `app`.
    """
    made = app(biz, **options)
    listener = _listen("127.0.0.1", port)
    config = _config(made)
    server = _Server(config, made)
    ready = threading.Event()

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        ready.set()
        await task

    thread = threading.Thread(target=_loop, args=(config, serve), name="bizcode-serve", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield _url("127.0.0.1", listener)
    finally:
        made.live.stop()
        server.should_exit = True
        thread.join()
        made.close()
        listener.close()


def write_key(biz: Business) -> str:
    """The business's first write key; made if there is none."""
    from .keys import Keys

    keys = Keys(biz.store)
    known = [key.text for key in keys.list() if key.scope == "write" and key.tenant is None]
    return known[0] if known else keys.create("write")


class _Server(uvicorn.Server):
    """Ends live connections first: they would hold the end up until the grace is over."""

    def __init__(self, config: uvicorn.Config, made: App) -> None:
        super().__init__(config)
        self._made = made

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._made.live.stop()
        super().handle_exit(sig, frame)


def _loop(config: uvicorn.Config, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


def _config(made: App) -> uvicorn.Config:
    return uvicorn.Config(
        made,
        http=Protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise BizError(
            f"{host} port {port} can't be listened on: {error}; choose another by --port"
        ) from error


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
