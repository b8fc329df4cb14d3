"""A request's body: read within a limit, unpacked within the same limit, parsed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import orjson

from .refused import Refused

__all__ = ["decoded", "headers_of", "parse", "query_of", "read", "unpacked"]

_ZIPPED = b"\x1f\x8b"
SLOWEST = 60
MOST_AT_ONCE = 64
MOST_OF_ONE = 16
"""So many bodies of several parts are taken at once, so that they don't fill the memory; so many of one address, so
that one that sends them slowly doesn't keep the others out."""
_arriving: Counter[str] = Counter()
_lock = threading.Lock()


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    """The headers by lower-case name; of several of one name the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: dict[str, Any]) -> dict[str, str]:
    """The query string's parameters; of several of one name the last."""
    raw = scope.get("query_string", b"")
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}


async def read(receive: Any, headers: dict[str, str], limit: int, client: str) -> bytes:
    """The whole body. Raises Refused: too large, too slow, cut off, or too many at once."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    with _place(client):
        try:
            async with asyncio.timeout(SLOWEST):
                return await _rest(receive, message, limit)
        except TimeoutError as error:
            raise Refused(408, f"the body took longer than {SLOWEST} s to arrive") from error


@contextmanager
def _place(client: str) -> Iterator[None]:
    """One of the places for large bodies. Raises Refused where none is left."""
    with _lock:
        if _arriving.total() >= MOST_AT_ONCE or _arriving[client] >= MOST_OF_ONE:
            raise Refused(503, "too many large bodies are arriving at once", {"retry-after": "2"})
        _arriving[client] += 1
    try:
        yield
    finally:
        with _lock:
            _arriving[client] -= 1
            if not _arriving[client]:
                del _arriving[client]


async def _rest(receive: Any, message: dict[str, Any], limit: int) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise Refused(400, "the connection ended before the body did")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit:,} bytes: send it in smaller batches")


def unpacked(raw: bytes, headers: dict[str, str], limit: int) -> bytes:
    """What gzip or deflate packed. Raises Refused: another encoding, broken, or too large unpacked."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if raw[:2] == _ZIPPED:
        return _inflate(raw, 31, limit)
    if encoding in ("", "identity", "gzip", "x-gzip"):
        if encoding not in ("", "identity") and raw:
            raise Refused(400, "the body says it is gzip, but doesn't begin as gzip does")
        return raw
    if encoding == "deflate":
        return _inflate(raw, 15, limit)
    raise Refused(415, f"the content-encoding {encoding[:40]!r} isn't known: use gzip, or none")


def _inflate(raw: bytes, window: int, limit: int) -> bytes:
    machine = zlib.decompressobj(window)
    try:
        found = machine.decompress(raw, limit + 1)
    except zlib.error as error:
        raise Refused(400, f"the packed body is broken: {error}") from error
    if len(found) > limit:
        raise Refused(413, f"the body is larger than {limit:,} bytes once unpacked: send smaller batches")
    if not machine.eof:
        raise Refused(400, "the packed body is cut off")
    return found


def decoded(text: str, limit: int) -> bytes:
    """Base64, in either alphabet, with or without padding; gzip in it is unpacked."""
    plain = text.strip().replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "data= is neither JSON nor base64") from error
    return _inflate(found, 31, limit) if found[:2] == _ZIPPED else found


def parse(raw: bytes) -> Any:
    """JSON. Raises Refused that says where it goes wrong."""
    if not raw.strip():
        raise Refused(400, "the body is empty: send JSON")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            raw.decode()
        except UnicodeDecodeError as wrong:
            raise Refused(400, f"the body isn't UTF-8: byte {wrong.start} can't be read") from error
        raise Refused(
            400, f"the body isn't JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise Refused(400, "the JSON is nested too deeply") from error
