"""HTTP by uvicorn, with an end to the patience that it has with half a request.

A client that sends a request's head byte by byte, or without end, would hold a connection and memory for as long as
it likes. Bodies have their own limits (`body.read`), idle connections uvicorn's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["LARGEST_HEAD", "SLOWEST_HEAD", "Protocol"]

SLOWEST_HEAD = 20.0
LARGEST_HEAD = 64 * 1024
_Http: Any = AutoHTTPProtocol


class Protocol(_Http):
    """One connection. A head that takes longer than SLOWEST_HEAD s or more than LARGEST_HEAD bytes ends it."""

    _late: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(SLOWEST_HEAD, self._refuse, b"408 Request Timeout")

    def data_received(self, data: bytes) -> None:
        before, within = self.cycle, self._in_head()
        super().data_received(data)
        if self.cycle is not before:
            self._done()
            return
        if within and self._in_head():
            self._size += len(data)
            if self._size > LARGEST_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")
                return
        elif not self.cycle.response_complete:
            return
        if self._late is None:  # half a head, or the rest of a body that was refused already
            self._late = self.loop.call_later(SLOWEST_HEAD, self._refuse, b"408 Request Timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _in_head(self) -> bool:
        """Whether what comes now belongs to a head: nothing is asked yet, or the body of what was has come."""
        return self.cycle is None or not self.cycle.more_body

    def _done(self) -> None:
        self._size = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: bytes) -> None:
        self._done()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else an answer is on its way
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
