"""Writing by the API: a write key in the Authorization header."""

from __future__ import annotations

from typing import Any

from ... import values, when
from ...errors import BizError, InvalidTime
from ...record import MEASURE
from ..intake import Incoming, Rejected
from ..refused import Refused
from .endpoint import Asked, Endpoint, text

__all__ = ["ENDPOINTS", "incoming", "outcome"]

_OPTIONS = {
    "at": {"anyOf": [text(40), {"type": "number"}]},
    "id": text(512, minLength=1),
    "user": text(400, minLength=1),
}
_TRACK = {
    "type": "object",
    "required": ["events"],
    "additionalProperties": False,
    "properties": {
        "events": {
            "type": "array",
            "minItems": 1,
            "maxItems": 10_000,
            "items": {
                "type": "object",
                "required": ["event"],
                "additionalProperties": False,
                "properties": {"event": text(minLength=1), "data": {"type": "object"}, **_OPTIONS},
            },
        }
    },
}
_MEASURE = {
    "type": "object",
    "required": ["samples"],
    "additionalProperties": False,
    "properties": {
        "samples": {
            "type": "array",
            "minItems": 1,
            "maxItems": 10_000,
            "items": {
                "type": "object",
                "required": ["metric", "value"],
                "additionalProperties": False,
                "properties": {
                    "metric": text(minLength=1),
                    "value": {"type": "number"},
                    "tags": {"type": "object"},
                    **_OPTIONS,
                },
            },
        }
    },
}


def incoming(biz: Any, body: Any) -> tuple[list[Incoming], list[int], list[Rejected]]:
    """Of a checked body: the events, the place of each, and those whose time can't be read."""
    found, places, rejected = [], [], []
    for n, one in enumerate(body["events"]):
        try:
            at = None if one.get("at") is None else when.instant(one["at"], biz.store.tz)
        except InvalidTime as error:
            rejected.append(Rejected(n, str(error)))
            continue
        found.append(Incoming(one["event"], one.get("data", {}), at, one.get("id"), one.get("user")))
        places.append(n)
    return found, places, rejected


def outcome(count: int, rejected: list[Rejected]) -> dict[str, Any]:
    """The answer to a batch. Raises Refused where nothing of it could be stored."""
    if rejected and len(rejected) == count:
        raise Refused(400, f"nothing was stored; [0]: {rejected[0].message}")
    return {
        "accepted": count - len(rejected),
        "rejected": [{"index": one.index, "message": one.message} for one in rejected],
    }


def _measure(asked: Asked) -> Any:
    writer, drafts, rejected = asked.biz.store.writer, [], []
    samples = asked.body["samples"]
    for n, one in enumerate(samples):
        try:
            name = values.name(one["metric"], "a metric")
            number = values.number(one["value"], name)
            draft, _ = writer.draft(
                MEASURE, name, one.get("tags", {}), value=number,
                at=one.get("at"), id=one.get("id"), user=one.get("user"),
            )  # fmt: skip
            drafts.append(draft)
        except BizError as error:
            rejected.append(Rejected(n, str(error)))
    answer = outcome(len(samples), rejected)
    asked.biz.store.log.append(drafts)
    writer.written(len(drafts))
    return answer


def _track(asked: Asked) -> Any:
    return incoming(asked.biz, asked.body)


ENDPOINTS = (
    Endpoint("POST", "/track", "track", "Record events; an id that is known stores nothing again", "track", _track, body=_TRACK, scope="write"),
    Endpoint("POST", "/measure", "measure", "Record samples of metrics", "measure", _measure, body=_MEASURE, scope="write"),
)  # fmt: skip
