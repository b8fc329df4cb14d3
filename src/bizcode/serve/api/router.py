"""From a request to an endpoint's answer: find it, check who asks and what for, run it on the library's threads."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ...errors import BizError
from ...query.base import awaited
from .. import body
from ..gate import client_of
from ..refused import Refused, refused
from . import questions, standing, writing
from .encode import dumps
from .endpoint import Asked, Endpoint, given, split
from .openapi import document
from .schema import check

if TYPE_CHECKING:
    from ..application import App

__all__ = ["ENDPOINTS", "HEADERS", "Api", "answer"]

logger = logging.getLogger("bizcode.serve")
ENDPOINTS: tuple[Endpoint, ...] = (*questions.ENDPOINTS, *standing.ENDPOINTS, *writing.ENDPOINTS)
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
_CLOSED = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_BODY = 1024 * 1024
LONGEST = 60.0


async def answer(send: Any, status: int, found: Any, more: dict[str, str] | None = None) -> None:
    """One JSON response."""
    content = dumps(found)
    headers = [*HEADERS, _CLOSED, (b"content-type", b"application/json")]
    headers += [(key.encode(), value.encode()) for key, value in (more or {}).items()]
    headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Api:
    """Answers what lies under /api."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any, path: str) -> None:
        try:
            if self._app.limiter is not None:
                self._app.limiter.check(client_of(scope))
            parts = split(_raw(scope, path))
            if parts == ("api", "openapi.json") and scope["method"] in ("GET", "HEAD"):
                from ... import __version__

                await answer(send, 200, document(ENDPOINTS, __version__, scope.get("root_path", "")))
                return
            if parts[:2] != ("api", "v1"):
                raise Refused(404, "there is nothing here; /api/openapi.json lists what there is")
            if parts[2:] == ("live",):
                await self._app.live(scope, receive, send)
                return
            await self._run(scope, receive, send, parts[2:])
        except Refused as error:
            await answer(send, error.status, error.body(), error.headers)
        except BizError as error:
            told = refused(error)
            await answer(send, told.status, told.body(), told.headers)
        except Exception:
            logger.exception("%s %s failed", scope["method"], path)
            await answer(
                send, 500, Refused(500, "the server failed on this request; its log says how").body()
            )

    async def _run(self, scope: dict[str, Any], receive: Any, send: Any, parts: tuple[str, ...]) -> None:
        endpoint, variables = _find(scope["method"], parts)
        headers = body.headers_of(scope)
        if endpoint.scope == "write":
            scheme, _, text = headers.get("authorization", "").partition(" ")
            key = self._app.gate.write_key(
                text.strip() if scheme.lower() == "bearer" else None, client_of(scope)
            )
            tenant, allowed = key.tenant, "write"
        else:
            principal = self._app.gate.principal(scope, headers)
            if endpoint.scope == "admin" and principal.scope != "admin":
                raise Refused(403, "this token only reads")
            tenant, allowed = principal.tenant, principal.scope
        query = given(endpoint, _pairs(scope))
        sent = await _json(endpoint, receive, headers, self._app.max_body, client_of(scope))
        biz = await self._app.opened(tenant)
        asked = Asked(biz, variables, query, sent, allowed)
        if endpoint.name == "track":
            await answer(send, 200, await self._track(biz, sent))
            return
        await answer(send, 200, await _unless_gone(endpoint, asked, receive))

    async def _track(self, biz: Any, sent: Any) -> dict[str, Any]:
        events, places, rejected = writing.incoming(biz, sent)
        if events:
            for index, message in await self._app.intake(biz).put(events):
                rejected.append(writing.Rejected(places[index], message))
        return writing.outcome(len(sent["events"]), sorted(rejected))


async def _unless_gone(endpoint: Endpoint, asked: Asked, receive: Any) -> Any:
    """Run it; where the client goes away or it takes too long, the query is interrupted."""
    work = asyncio.ensure_future(awaited(asked.biz.store.engine, lambda: endpoint.answer(asked)))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({work, gone}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refused(
                503,
                f"the question took longer than {LONGEST:g} s: ask for less at once",
                {"retry-after": "60"},
            )
        return work.result()
    finally:
        for task in (work, gone):
            task.add_done_callback(_seen)
            task.cancel()


def _seen(task: asyncio.Future[Any]) -> None:
    """What a question that nobody waits for any more came to is of no interest."""
    if not task.cancelled():
        task.exception()


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _json(endpoint: Endpoint, receive: Any, headers: dict[str, str], most: int, client: str) -> Any:
    if endpoint.body is None:
        return None
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body is JSON: set Content-Type to application/json")
    limit = most if endpoint.scope == "write" else min(most, _BODY)
    raw = body.unpacked(await body.read(receive, headers, limit, client), headers, limit)
    found = body.parse(raw)
    check(found, endpoint.body)
    return found


def _find(method: str, parts: tuple[str, ...]) -> tuple[Endpoint, dict[str, str]]:
    others = []
    for endpoint in ENDPOINTS:
        variables = endpoint.match(parts)
        if variables is None:
            continue
        if endpoint.method == method:
            return endpoint, variables
        others.append(endpoint.method)
    if others:
        allowed = ", ".join(dict.fromkeys(others))
        raise Refused(405, f"this path takes {allowed}, not {method}", {"allow": allowed})
    raise Refused(404, "there is nothing here; /api/openapi.json lists what there is")


def _raw(scope: dict[str, Any], path: str) -> str:
    """The path as it was sent: a slash within a name is quoted there."""
    raw = scope.get("raw_path")
    if raw is None:
        return path
    text = raw.decode("latin-1").partition("?")[0]
    root = scope.get("root_path", "")
    return text[len(root) :] if root and text.startswith(root) else text


def _pairs(scope: dict[str, Any]) -> list[tuple[str, str]]:
    raw = scope.get("query_string", b"").decode("latin-1")
    try:
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError as error:
        raise Refused(400, "the query string can't be read: it is UTF-8, percent-encoded") from error
