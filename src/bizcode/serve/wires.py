"""The doors for SDKs: PostHog's and Segment's paths, from body to committed events."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections import OrderedDict
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .. import values
from ..errors import BizError
from ..query.base import awaited
from . import body, flags, posthog, segment
from .gate import client_of
from .intake import Incoming
from .refused import Refused, refused

if TYPE_CHECKING:
    from .application import App

__all__ = ["Wires", "respond"]

logger = logging.getLogger("bizcode.serve")
_ASKED = ("/flags", "/decide")
_SDK = "/static/array.js"
"""Where the snippet of PostHog's that stands in pages looks for the SDK itself."""
_SNIFF = (b"x-content-type-options", b"nosniff")
_BIG = 64 * 1024
_MOST_BEFORE = 100_000


class Script(NamedTuple):
    """JavaScript, and headers beside the usual ones."""

    content: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"cache-control", b"no-store"),)


@cache
def _sdk() -> tuple[bytes, bytes]:
    """PostHog's JavaScript SDK, packed and not."""
    packed = resources.files("bizcode.serve").joinpath("sdk", "array.js.gz").read_bytes()
    return packed, gzip.decompress(packed)


class Wires:
    """Answers the paths of the SDKs' protocols."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._before: OrderedDict[tuple[int, str], str] = OrderedDict()
        self.paths = {*posthog.PATHS, posthog.RECORDINGS, _SDK, *posthog.NOTHING, *segment.PATHS, *_ASKED}

    def answers(self, path: str) -> bool:
        """Whether a path (without a slash at its end) is one of theirs."""
        return path in self.paths or _is_settings(path)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any, path: str) -> None:
        headers = body.headers_of(scope)
        cors = _cors(headers)
        try:
            if scope["method"] == "OPTIONS":
                await respond(send, 204, b"", [*cors, (b"access-control-max-age", b"86400")])
                return
            status, found = await self._answer(scope, receive, headers, path)
        except Refused as error:
            status, found = error.status, error.wire()
            cors = [*cors, *((k.encode(), v.encode()) for k, v in error.headers.items())]
        except BizError as error:
            told = refused(error)
            status, found = told.status, told.wire()
            cors = [*cors, *((k.encode(), v.encode()) for k, v in told.headers.items())]
        except Exception:
            logger.exception("%s %s failed", scope["method"], path)
            told = Refused(500, "the server failed on this request; its log says how")
            status, found = 500, told.wire()
        if isinstance(found, Script):
            more = [(b"content-type", b"text/javascript; charset=utf-8"), *found.headers]
            await respond(send, status, found.content, [*cors, _SNIFF, *more])
        else:
            more = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
            await respond(send, status, orjson.dumps(found), [*cors, _SNIFF, *more])

    async def _answer(
        self, scope: dict[str, Any], receive: Any, headers: dict[str, str], path: str
    ) -> tuple[int, Any]:
        client = client_of(scope)
        if self._app.limiter is not None:
            self._app.limiter.check(client)
        if _is_settings(path):
            return 200, await self._settings(scope, headers, path)
        if path == _SDK:
            packed, plain = _sdk()
            aged = ((b"cache-control", b"public, max-age=3600"), (b"vary", b"accept-encoding"))
            if "gzip" in headers.get("accept-encoding", ""):
                return 200, Script(packed, (*aged, (b"content-encoding", b"gzip")))
            return 200, Script(plain, aged)
        if path in posthog.NOTHING:
            key = body.query_of(scope).get("token")
            self._app.gate.write_key(key, client)
            return 200, posthog.NOTHING[path]
        if scope["method"] != "POST":
            raise Refused(405, f"{path} takes POST, not {scope['method']}", {"allow": "POST, OPTIONS"})
        raw = await body.read(receive, headers, self._app.max_body, client)
        if path == posthog.RECORDINGS:
            return 200, {"status": 1, "quota_limited": ["recordings"]}
        if path in segment.PATHS:
            return await self._segment(raw, headers, path, client)
        return await self._posthog(raw, headers, body.query_of(scope), path, client)

    async def _posthog(
        self, raw: bytes, headers: dict[str, str], query: dict[str, str], path: str, client: str
    ) -> tuple[int, Any]:
        limit = self._app.max_body
        found, sent = await _work(raw, posthog.payload, raw, headers, query, limit)
        key = self._app.gate.write_key(posthog.key_of(found, query, headers), client)
        biz = await self._app.opened(key.tenant)
        if path in _ASKED:
            return 200, await self._flags(biz, found, query)
        events = await _work(raw, posthog.incoming, found, sent, biz.store.now())
        if path != posthog.EVENTS:
            return await self._store(biz, events, path, {"status": 1})
        wrong = await self._put(biz, events, path)
        return 200, posthog.outcome(found, wrong)

    async def _flags(self, biz: Any, found: Any, query: dict[str, str]) -> dict[str, Any]:
        """Without a user there is nobody to decide for: what the SDK asks then is the settings only."""
        asked = found if isinstance(found, dict) else {}
        user, anonymous = asked.get("distinct_id"), asked.get("$anon_distinct_id")
        known, failed = {}, []
        if user is not None and biz.experiment.book.entries():
            user = posthog.identifier(user, "distinct_id")
            before = self._known_as(biz, user, anonymous)
            given = asked.get("person_properties")
            given = values.encode(given if isinstance(given, dict) else {}, biz.store.tz)[0]
            known, failed = await awaited(biz.store.engine, lambda: flags.variants(biz, user, before, given))
        wanted = asked.get("flag_keys_to_evaluate")
        return {**posthog.config(True), **flags.answer(known, failed, query.get("v", "1"), wanted)}

    def _known_as(self, biz: Any, user: str, anonymous: Any) -> str | None:
        """The id that a user had before signing in. The SDK says it once, and asks again before the `$identify`
        that merges the two is sent: so it is kept here until then."""
        at = (id(biz), user)
        if isinstance(anonymous, str) and anonymous and anonymous != user:
            self._before[at] = anonymous
            if len(self._before) > _MOST_BEFORE:
                self._before.popitem(last=False)
        return self._before.get(at)

    async def _segment(self, raw: bytes, headers: dict[str, str], path: str, client: str) -> tuple[int, Any]:
        found = await _work(raw, _unpack, raw, headers, self._app.max_body)
        key = self._app.gate.write_key(segment.key_of(found, headers), client)
        biz = await self._app.opened(key.tenant)
        events = await _work(raw, segment.incoming, found, segment.PATHS[path], biz.store.now())
        return await self._store(biz, events, path, {"success": True})

    async def _store(
        self, biz: Any, events: list[Incoming | str], path: str, done: dict[str, Any]
    ) -> tuple[int, Any]:
        """Accept what can be stored. Where nothing can, the answer is a 400; else it lists what was left out."""
        wrong = await self._put(biz, events, path)
        if not wrong:
            return 200, done
        if len(events) == 1:
            raise Refused(400, wrong[0])
        shown = [{"index": n, "message": message} for n, message in sorted(wrong.items())[:100]]
        if len(wrong) == len(events):
            raise Refused(400, f"none of the {len(events)} events could be taken; [0]: {shown[0]['message']}")
        return 200, {**done, "accepted": len(events) - len(wrong), "rejected": shown}

    async def _put(self, biz: Any, events: list[Incoming | str], path: str) -> dict[int, str]:
        """Store them; what was wrong with the others, by their place."""
        wrong = {n: event for n, event in enumerate(events) if isinstance(event, str)}
        places = [n for n, event in enumerate(events) if not isinstance(event, str)]
        if places:
            good = [event for event in events if not isinstance(event, str)]
            for index, message in await self._app.intake(biz).put(good):
                wrong[places[index]] = message
        if wrong:
            logger.warning("%s: %d of %d events refused", path, len(wrong), len(events))
        return wrong

    async def _settings(self, scope: dict[str, Any], headers: dict[str, str], path: str) -> Any:
        key = path.split("/")[3 if path.startswith("/v1/") else 2]
        found = self._app.gate.write_key(key, client_of(scope))
        if path.startswith("/v1/"):
            root = scope.get("root_path", "")
            return segment.settings(key, f"{scope.get('scheme', 'http')}://{headers.get('host', '')}{root}")
        biz = await self._app.opened(found.tenant)
        config = posthog.config(bool(biz.experiment.book.entries()))
        if path.endswith(".js"):
            known = orjson.dumps(config).decode()
            text = (
                "(window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{})"
                f"[{orjson.dumps(key).decode()}]={{config:{known},siteApps:[]}};"
            )
            return Script(text.encode())
        return config


def _is_settings(path: str) -> bool:
    parts = path.split("/")
    if len(parts) == 4 and parts[1] == "array":
        return parts[3] in ("config", "config.js")
    return len(parts) == 5 and path.startswith("/v1/projects/") and parts[4] == "settings"


def _unpack(raw: bytes, headers: dict[str, str], limit: int) -> Any:
    return body.parse(body.unpacked(raw, headers, limit))


async def _work(raw: bytes, function: Any, *given: Any) -> Any:
    """Small bodies are taken apart here, large ones on another thread, so that nobody waits for them."""
    if len(raw) < _BIG and raw[:2] != b"\x1f\x8b":
        return function(*given)
    return await asyncio.to_thread(function, *given)


def _cors(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Pages of any origin may send events: a write key is what counts, cookies don't."""
    origin = headers.get("origin")
    if origin is None:
        return []
    asked = headers.get("access-control-request-headers", "content-type, authorization")
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"vary", b"Origin"),
    ]


async def respond(send: Any, status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """One whole response."""
    length = [] if status == 204 else [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": content})
