"""PostHog's wire: what its SDKs send to /capture, /e, /i/v0/e and /batch, and ask of /flags and /decide.

An event lands under its own name with its own properties, for the user `distinct_id`. `$identify` and
`$create_alias` are events too, and merge two ids: the properties of a person (`$set`) stand among the event's
own, so that audiences of experiments see them. An alias counts under the name given as `alias`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from ..errors import InvalidTime
from . import body, moment
from .flags import CALLED
from .intake import Incoming
from .refused import Refused

__all__ = [
    "EVENTS", "NOTHING", "PATHS", "RECORDINGS", "config", "identifier", "incoming", "key_of", "outcome", "payload",
]  # fmt: skip

EVENTS = "/i/v1/analytics/events"
"""Where newer SDKs send batches: the key in Authorization, one answer for each event."""
PATHS = ("/capture", "/e", "/track", "/i/v0/e", "/batch", "/i/v0/ai/batch", EVENTS)
RECORDINGS = "/s"
"""Recordings of sessions aren't kept: the answer makes the SDK stop sending them."""
NOTHING: dict[str, dict[str, Any]] = {
    "/api/surveys": {"surveys": []},
    "/api/early_access_features": {"earlyAccessFeatures": []},
    "/api/web_experiments": {"experiments": []},
    "/api/product_tours": {"product_tours": []},
}
"""What the JavaScript SDK also asks for, and what it understands as none."""
_PERSON = ("$identify", "$set")
_SECRET = ("token", "api_key")
_PARTS = ("$set", "$set_once")


_TRUSTED = "disable_skew_correction"
_LIFTED = ("session_id", "window_id")


def payload(raw: bytes, headers: dict[str, str], query: dict[str, str], limit: int) -> tuple[Any, int | None]:
    """(the JSON, when the client says it sent it): plain, gzip, base64 or as a form's `data`."""
    raw = body.unpacked(raw, headers, limit)
    compression = query.get("compression", "")
    if compression not in ("", "gzip", "gzip-js", "base64"):
        raise Refused(415, f"compression={compression[:40]!r} isn't known: use gzip-js, base64, or none")
    if raw[:5] == b"data=" or headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = parse_qs(raw.decode("latin-1"), max_num_fields=20)
        found = form.get("data", [""])[-1]
        text = found.lstrip()
        plain = text[:1] in ("{", "[")
        raw = text.encode("latin-1") if plain else body.decoded(found, limit)
    elif compression == "base64" and raw[:1] not in (b"{", b"["):
        raw = body.decoded(raw.decode("latin-1"), limit)
    return body.parse(raw), _sent_by(headers, query)


def _sent_by(headers: dict[str, str], query: dict[str, str]) -> int | None:
    sent = query.get("_")
    if sent and sent.isdigit() and len(sent) == 13:
        return int(sent) * 1_000
    try:
        return moment.instant(headers.get("posthog-request-timestamp"))
    except InvalidTime as error:
        raise Refused(400, f"PostHog-Request-Timestamp: {error}") from error


def key_of(found: Any, query: dict[str, str], headers: dict[str, str]) -> str | None:
    """The write key, wherever this SDK puts it."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    first: Any = found
    if isinstance(found, dict):
        for name in ("api_key", "token"):
            if isinstance(found.get(name), str):
                return found[name]
        batch = found.get("batch")
        first = batch[0] if isinstance(batch, list) and batch else found
    elif isinstance(found, list) and found:
        first = found[0]
    if isinstance(first, dict):
        properties = first.get("properties")
        for place in (first, properties if isinstance(properties, dict) else {}):
            for name in ("api_key", "token"):
                if isinstance(place.get(name), str):
                    return place[name]
    return query.get("api_key") or query.get("token")


def incoming(found: Any, sent: int | None, now: int) -> list[Incoming | str]:
    """The events; a sentence in the place of each that can't be read."""
    if isinstance(found, dict) and "batch" in found:
        events = found["batch"]
        if not isinstance(events, list):
            raise Refused(400, f"batch is a list of events, not {_kind(events)}")
        sent = _sent(found, sent)
    elif isinstance(found, list):
        events = found
    elif isinstance(found, dict):
        events, sent = [found], _sent(found, sent)
    else:
        raise Refused(400, f"the body is an event, a list of events or a batch, not {_kind(found)}")
    if not events:
        raise Refused(400, "the batch is empty: send at least one event")
    made: list[Incoming | str] = []
    for event in events:
        try:
            made.append(_one(event, sent, now))
        except (Refused, InvalidTime) as error:
            made.append(str(error))
    return made


def outcome(found: Any, wrong: Mapping[int, str]) -> dict[str, Any]:
    """The answer of EVENTS: what became of each, by its uuid. Sending it again would not help what was left out."""
    events = found.get("batch", [found]) if isinstance(found, dict) else found
    said: dict[str, Any] = {}
    for n, event in enumerate(events):
        id = event.get("uuid") if isinstance(event, dict) else None
        if isinstance(id, str):
            said[id] = {"result": "drop", "details": wrong[n]} if n in wrong else {"result": "ok"}
    return {"results": said}


def _sent(found: Mapping[str, Any], known: int | None) -> int | None:
    given = found.get("sent_at", found.get("sentAt"))
    try:
        return known if given is None else moment.instant(given)
    except InvalidTime as error:
        raise Refused(400, f"sent_at: {error}") from error


def _one(event: Any, sent: int | None, now: int) -> Incoming:
    if not isinstance(event, dict):
        raise Refused(400, f"an event is an object, not {_kind(event)}")
    name = event.get("event")
    if not isinstance(name, str):
        raise Refused(400, "the event has no name: set event to a text")
    given = event.get("properties")
    if given is not None and not isinstance(given, dict):
        raise Refused(400, f"properties is an object, not {_kind(given)}")
    data = dict(given or {})
    user = identifier(event.get("distinct_id", data.pop("distinct_id", None)), "distinct_id")
    for part in _SECRET:
        data.pop(part, None)
    for part in _LIFTED:
        if isinstance(event.get(part), str):
            data.setdefault(f"${part}", event[part])
    for part in _PARTS:
        if part in event and isinstance(event[part], dict) and part not in data:
            data[part] = event[part]
    merge = None
    if name in _PERSON:
        data = _person(data)
    if name == "$identify":
        anonymous = event.get("$anon_distinct_id", data.get("$anon_distinct_id"))
        if anonymous is not None:
            merge = (identifier(anonymous, "$anon_distinct_id"), user, False)
    elif name in ("$create_alias", "$merge_dangerously"):
        merge = (user, identifier(data.get("alias"), "alias"), True)
    options = event.get("options")
    if data.get("$ignore_sent_at") is True or (isinstance(options, dict) and options.get(_TRUSTED) is True):
        sent = None
    at, useless = _when(event, sent, now)
    if useless:
        data["$timestamp_given"] = event.get("timestamp")
    shown = (data.get("$feature_flag"), data.get("$feature_flag_response")) if name == CALLED else None
    return Incoming(name, data, at, event.get("uuid"), user, merge, shown)


def _person(data: dict[str, Any]) -> dict[str, Any]:
    known = {}
    for part in ("$set_once", "$set"):
        found = data.pop(part, None)
        known |= found if isinstance(found, dict) else {}
    return {**data, **known}


def _when(event: Mapping[str, Any], sent: int | None, now: int) -> tuple[int, bool]:
    given = moment.instant(event.get("timestamp"))
    offset = event.get("offset")
    if given is None and isinstance(offset, (int, float)) and 0 <= offset < 1e12:
        return now - int(offset * 1_000), False
    return moment.corrected(given, sent, now)


def identifier(value: Any, what: str) -> str:
    """A user's id: text, or a number's text. Raises Refused that names the field."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise Refused(400, f"the event has no {what}: set it to the user's id")
    if len(value) > 400:
        raise Refused(400, f"{what} has {len(value)} characters, at most 400 are taken")
    return value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def config(flags: bool) -> dict[str, Any]:
    """What the JavaScript SDK asks before it begins: nothing to record or to load; whether there are flags. Without
    a word about surveys it loads no script for them."""
    return {
        "supportedCompression": ["gzip", "gzip-js", "base64"],
        "hasFeatureFlags": flags,
        "sessionRecording": False,
        "heatmaps": False,
        "capturePerformance": False,
        "autocapture_opt_out": True,
        "captureDeadClicks": False,
        "autocaptureExceptions": False,
        "isAuthenticated": False,
        "siteApps": [],
        "toolbarParams": {},
        "config": {"enable_collect_everything": False},
    }
