"""Segment's HTTP tracking API: /v1/track, page, screen, identify, group, alias and batch.

A track lands under its own name. The others land under the names that PostHog gives them, so that both wires
meet: page is `$pageview`, screen `$screen`, identify `$identify`, group `$groupidentify`, alias
`$create_alias`. Traits are the event's properties. An identify with both ids and an alias merge them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidTime
from . import moment
from .intake import Incoming
from .posthog import identifier
from .refused import Refused

__all__ = ["PATHS", "incoming", "key_of", "settings"]

_TYPES = ("track", "page", "screen", "identify", "group", "alias")
PATHS: dict[str, str | None] = {"/v1/batch": None, "/v1/b": None, "/v1/import": None}
"""Path to the type that its messages have; None: each says it itself."""
PATHS |= {f"/v1/{type}": type for type in _TYPES} | {f"/v1/{type[0]}": type for type in _TYPES}
_NAMES = {
    "page": "$pageview",
    "screen": "$screen",
    "identify": "$identify",
    "group": "$groupidentify",
    "alias": "$create_alias",
}


def key_of(found: Any, headers: dict[str, str]) -> str | None:
    """The write key: the user's name of basic auth, or `writeKey` in the body."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise Refused(
                401, "the basic authorization can't be read: it is base64 of 'writeKey:'"
            ) from error
        return text.partition(":")[0]
    key = found.get("writeKey") if isinstance(found, dict) else None
    return key if isinstance(key, str) else None


def incoming(found: Any, type: str | None, now: int) -> list[Incoming | str]:
    """The events; a sentence in the place of each that can't be read."""
    if not isinstance(found, dict):
        raise Refused(400, "the body is an object: a message, or {'batch': [messages]}")
    messages = [found]
    if type is None or "batch" in found:
        messages = found.get("batch")
        if not isinstance(messages, list) or not messages:
            raise Refused(400, "batch is a list of at least one message")
    try:
        sent = moment.instant(found.get("sentAt"))
    except InvalidTime as error:
        raise Refused(400, f"sentAt: {error}") from error
    made: list[Incoming | str] = []
    for message in messages:
        try:
            made.append(_one(message, type, sent, now))
        except (Refused, InvalidTime) as error:
            made.append(str(error))
    return made


def _one(message: Any, type: str | None, sent: int | None, now: int) -> Incoming:
    if not isinstance(message, dict):
        raise Refused(400, "a message is an object")
    type = message.get("type", type)
    if type not in _TYPES:
        raise Refused(400, f"type is one of {', '.join(_TYPES)}, not {str(type)[:40]!r}")
    anonymous = message.get("anonymousId")
    anonymous = None if anonymous is None else identifier(anonymous, "anonymousId")
    known = message.get("userId")
    known = None if known is None or known == "" else identifier(known, "userId")
    user = known or anonymous
    if user is None:
        raise Refused(400, "the message has neither userId nor anonymousId")
    data = _data(message, type)
    if known is not None and anonymous is not None:
        data["anonymousId"] = anonymous
    if message.get("context"):
        data["context"] = message["context"]
    merge = None
    if type == "identify" and known is not None and anonymous is not None:
        merge = (anonymous, known, False)
    elif type == "alias":
        merge = (identifier(message.get("previousId"), "previousId"), user, True)
        data["previousId"] = message["previousId"]
    name = message.get("event") if type == "track" else _NAMES[type]
    if not isinstance(name, str):
        raise Refused(400, "a track has the event's name in event")
    own = message.get("sentAt")
    given = message.get("originalTimestamp") or message.get("timestamp")
    sent = sent if own is None else moment.instant(own)
    at, useless = moment.corrected(moment.instant(given), sent, now)
    if useless:
        data["$timestamp_given"] = given
    return Incoming(name, data, at, message.get("messageId"), user, merge)


def _data(message: Mapping[str, Any], type: str) -> dict[str, Any]:
    part = "traits" if type in ("identify", "group") else "properties"
    given = message.get(part)
    if given is not None and not isinstance(given, dict):
        raise Refused(400, f"{part} is an object")
    data = dict(given or {})
    if type == "group":
        data["$group_key"] = identifier(message.get("groupId"), "groupId")
    if type in ("page", "screen"):
        for field in ("name", "category"):
            if isinstance(message.get(field), str):
                data.setdefault(field, message[field])
    return data


def settings(key: str, host: str) -> dict[str, Any]:
    """What the JavaScript SDK asks before it begins: to send to this host, and to load nothing."""
    scheme, _, rest = host.partition("://")
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": key,
                "apiHost": f"{rest}/v1",
                "protocol": scheme,
                "unbundledIntegrations": [],
            }
        },
        "plan": {"track": {"__default": {"enabled": True}}, "identify": {"__default": {"enabled": True}}},
        "enabledMiddleware": {},
        "remotePlugins": [],
        "legacyVideoPluginsEnabled": False,
    }
