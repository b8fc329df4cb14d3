"""Questions about events and metrics: numbers, records, funnels, cohorts."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import orjson

from ... import when
from ...errors import InvalidQuery
from ...plan.fields import this
from ..refused import Refused
from .encode import groups, plain
from .endpoint import Asked, Endpoint, Parameter, text

__all__ = ["ENDPOINTS", "MOST_GROUPS"]

MOST_GROUPS = 100_000
_LIMIT = {"type": "integer", "minimum": 0, "maximum": MOST_GROUPS}
_CONDITIONS = {"type": "object"}
_WHERE = Parameter(
    "where", _CONDITIONS, 'conditions as JSON: {"plan": "pro", "amount": {"gte": 100}}', json=True
)
_SINCE = Parameter("since", text(40), 'an instant, "7d", "today", "week", "month", "quarter" or "year"')
_UNTIL = Parameter("until", text(40), "an instant; left out: open")
_BY = Parameter("by", text(), "a property, a time bucket, event, user or experiment:name", many=True)
_RANGE = (_WHERE, _SINCE, _UNTIL)
_NUMBER = (
    *_RANGE,
    _BY,
    Parameter("property", text(), "which property the number is of"),
    Parameter("p", {"type": "number", "minimum": 0, "maximum": 100}, "the percentile"),
    Parameter(
        "vs", text(20), "beside the previous range: prev, prev_week, prev_month, prev_quarter, prev_year"
    ),
    Parameter("limit", _LIMIT, "the first so many groups; 1,000 where nothing is said"),
    Parameter("offset", _LIMIT, "leave out the first so many groups"),
)
_RECORDS = (
    *_RANGE,
    Parameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": 1_000}, "how many; 100 where nothing is said"
    ),
    Parameter("cursor", text(400), "of the page before"),
)
_OF_EVENTS = ("count", "unique", "sum", "avg", "min", "max", "median", "percentile", "stddev")
_OF_METRICS = (
    "count", "unique", "sum", "avg", "min", "max", "median", "percentile", "stddev", "first", "last", "current", "rate",
)  # fmt: skip


def _ranged(query: Any, asked: Asked) -> Any:
    if asked.get("where"):
        query = query.where(asked.get("where"))
    if asked.get("since") is not None:
        query = query.since(asked.get("since"))
    if asked.get("until") is not None:
        query = query.until(asked.get("until"))
    return query


def _events(asked: Asked) -> Any:
    name = asked.path["name"]
    return asked.biz.track.any if name == "*" else asked.biz.track[name]


def _number(selection: Any, asked: Asked, known: tuple[str, ...], metric: bool) -> Any:
    operation = asked.path["operation"]
    if operation not in known:
        raise Refused(404, f"there is no {operation[:40]!r}; there is {', '.join(known)}")
    property = asked.get("property")
    selection = _ranged(selection, asked)
    function = getattr(selection, operation)
    if operation == "percentile":
        p = asked.get("p", 50.0)
        query = function(p) if metric else function(p, property)
    elif operation == "rate":
        query = function(property or "1m")
    elif operation == "count" or (metric and operation != "unique"):
        if property is not None:
            raise Refused(400, f"{operation} takes no property")
        query = function()
    else:
        query = function(property)
    by = asked.get("by", [])
    if by:
        query = query.by(*by)
    if asked.get("vs") is not None:
        query = query.vs(asked.get("vs"))
    limit = asked.get("limit", 1_000)
    if by:
        query = query.limit(limit + 1)
        if asked.get("offset"):
            query = query.offset(asked.get("offset"))
    return groups(query.run(), by, limit)


def _track_number(asked: Asked) -> Any:
    return _number(_events(asked), asked, _OF_EVENTS, metric=False)


def _measure_number(asked: Asked) -> Any:
    return _number(asked.biz.measure[asked.path["name"]], asked, _OF_METRICS, metric=True)


# records, by pages


def _page(selection: Any, asked: Asked) -> Any:
    limit = asked.get("limit", 100)
    query = _ranged(selection, asked)
    if asked.get("cursor"):
        time, position = _cursor(asked.get("cursor"))
        moment = when.to_datetime(time)
        before = (this.timestamp < moment) | ((this.timestamp == moment) & (this.position < position))
        query = query.where(before)
        if asked.get("until") is None:
            query = query.until(moment + timedelta(microseconds=1))
    found = query.events().limit(limit + 1).run()
    more = len(found) > limit
    found = found[:limit]
    cursor = None
    if more:
        last = found[-1]
        cursor = base64.urlsafe_b64encode(orjson.dumps([last._time, last.position])).decode().rstrip("=")
    return {"result": [plain(record) for record in found], "cursor": cursor}


def _cursor(text: str) -> tuple[int, int]:
    try:
        time, position = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if type(time) is not int or type(position) is not int or abs(time) > 2**57:
            raise ValueError
    except (ValueError, TypeError) as error:
        raise Refused(400, "the cursor is none that this API gave: begin without one") from error
    return time, position


def _track_events(asked: Asked) -> Any:
    return _page(_events(asked), asked)


def _measure_events(asked: Asked) -> Any:
    return _page(asked.biz.measure[asked.path["name"]], asked)


def _names(asked: Asked) -> Any:
    return {"result": asked.biz.track.names().run()}


def _metrics(asked: Asked) -> Any:
    from ...measure.metric import metric_kind

    names = asked.biz.measure.names().run()
    return {"result": [{"name": name, "kind": metric_kind(asked.biz.store, name)} for name in names]}


def _track_schema(asked: Asked) -> Any:
    return {"result": plain(asked.biz.track[asked.path["name"]].schema().run())}


def _measure_schema(asked: Asked) -> Any:
    return {"result": plain(asked.biz.measure[asked.path["name"]].schema().run())}


def _trend(asked: Asked) -> Any:
    return {"result": plain(_ranged(asked.biz.measure[asked.path["name"]].trend(), asked).run())}


def _anomalies(asked: Asked) -> Any:
    return {"result": plain(_ranged(asked.biz.measure[asked.path["name"]].anomalies(), asked).run())}


# funnels and cohorts

_STEP = {
    "anyOf": [
        text(minLength=1),
        {
            "type": "object",
            "required": ["event"],
            "properties": {"event": text(), "where": _CONDITIONS, "optional": {"type": "boolean"}},
            "additionalProperties": False,
        },
    ]
}
_LIST = {"type": "array", "items": text(), "maxItems": 10}
_COMMON = {"where": _CONDITIONS, "since": text(40), "until": text(40), "by": _LIST}
_FUNNEL = {
    "type": "object",
    "required": ["steps"],
    "additionalProperties": False,
    "properties": {
        "steps": {"type": "array", "items": _STEP, "minItems": 1, "maxItems": 50},
        "within": text(40),
        "order": {"type": "string", "enum": ["ordered", "strict", "unordered"]},
        "attribution": {"anyOf": [text(20), {"type": "integer", "minimum": 1, "maximum": 50}]},
        "hold": _LIST,
        "exclude": {
            "type": "array",
            "maxItems": 10,
            "items": {
                "type": "object",
                "required": ["event"],
                "additionalProperties": False,
                "properties": {
                    "event": _STEP,
                    "after": {"type": "integer", "minimum": 1, "maximum": 50},
                    "before": {"type": "integer", "minimum": 1, "maximum": 50},
                },
            },
        },
        **_COMMON,
    },
}
_USERS = {
    **_FUNNEL,
    "properties": {
        **_FUNNEL["properties"],
        "which": {"type": "string", "enum": ["users", "dropped", "in_progress"]},
        "step": {"type": "integer", "minimum": 1, "maximum": 50},
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
    },
}
_COHORT = {
    "type": "object",
    "required": ["anchor", "activity"],
    "additionalProperties": False,
    "properties": {
        "anchor": _STEP,
        "activity": _STEP,
        "periods": {"type": "integer", "minimum": 1, "maximum": 400},
        "granularity": {"type": "string", "enum": list(when.UNITS)},
        "min_count": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "anchor_kind": {"type": "string", "enum": ["first", "recurring"]},
        "rolling": {"type": "boolean"},
        "on_or_after": {"type": "boolean"},
        "sum": text(),
        **_COMMON,
    },
}


def _step(biz: Any, given: Any) -> Any:
    if isinstance(given, str):
        return biz.step(given)
    step = biz.step(given["event"])
    if given.get("where"):
        step = step.where(given["where"])
    return step.optional() if given.get("optional") else step


def _bounded(query: Any, body: dict[str, Any]) -> Any:
    if body.get("where"):
        query = query.where(body["where"])
    if body.get("since") is not None:
        query = query.since(body["since"])
    if body.get("until") is not None:
        query = query.until(body["until"])
    return query


def _funnel_query(asked: Asked) -> Any:
    biz, body = asked.biz, asked.body
    query = biz.track.funnel([_step(biz, step) for step in body["steps"]])
    if "order" in body:
        query = getattr(query, body["order"])()
    if body.get("within") is not None:
        query = query.within(body["within"])
    for one in body.get("exclude", ()):
        query = query.exclude(_step(biz, one["event"]), one.get("after", 1), one.get("before"))
    if body.get("hold"):
        query = query.hold(*body["hold"])
    return _bounded(query, body)


def _funnel(asked: Asked) -> Any:
    query, by = _funnel_query(asked), asked.body.get("by") or []
    if by:
        query = query.by(*by, attribution=asked.body.get("attribution", "first"))
    elif "attribution" in asked.body:
        raise InvalidQuery("attribution is for a funnel that is split: give by")
    return groups(query.run(), by, 1_000)


def _funnel_users(asked: Asked) -> Any:
    body = asked.body
    which, limit = body.get("which", "users"), body.get("limit", 100)
    query = getattr(_funnel_query(asked), which)(body.get("step", 1 if which == "users" else 2))
    found = query.limit(limit + 1).run() if hasattr(query, "limit") else query.run()
    return {"result": list(found)[:limit], "truncated": len(found) > limit}


def _cohort(asked: Asked) -> Any:
    biz, body = asked.biz, asked.body
    query = biz.track.cohort(
        _step(biz, body["anchor"]),
        "*" if body["activity"] == "*" else _step(biz, body["activity"]),
        body.get("periods", 8),
        body.get("granularity", "week"),
        body.get("min_count", 1),
        body.get("anchor_kind", "first"),
    )
    query = _bounded(query, body)
    if body.get("rolling"):
        query = query.rolling()
    if body.get("on_or_after"):
        query = query.on_or_after()
    if body.get("sum"):
        query = query.sum(body["sum"])
    by = body.get("by") or []
    return groups((query.by(*by) if by else query).run(), by, 200)


ENDPOINTS = (
    Endpoint("GET", "/track", "track_names", "The names of the events seen", "track", _names),
    Endpoint("GET", "/track/{name}/events", "track_events", "Events, newest first; name * is all", "track", _track_events, _RECORDS),
    Endpoint("GET", "/track/{name}/schema", "track_schema", "The properties seen", "track", _track_schema),
    Endpoint("GET", "/track/{name}/{operation}", "track_number", f"One of {', '.join(_OF_EVENTS)}; name * is all events", "track", _track_number, _NUMBER),
    Endpoint("GET", "/measure", "measure_names", "The metrics seen, and how each is used", "measure", _metrics),
    Endpoint("GET", "/measure/{name}/events", "measure_events", "Samples, newest first", "measure", _measure_events, _RECORDS),
    Endpoint("GET", "/measure/{name}/schema", "measure_schema", "The tags seen", "measure", _measure_schema),
    Endpoint("GET", "/measure/{name}/trend", "measure_trend", "Slope per day, direction, r2, p-value", "measure", _trend, _RANGE),
    Endpoint("GET", "/measure/{name}/anomalies", "measure_anomalies", "The days that stand out", "measure", _anomalies, _RANGE),
    Endpoint("GET", "/measure/{name}/{operation}", "measure_number", f"One of {', '.join(_OF_METRICS)}; the unit of a rate is its property", "measure", _measure_number, _NUMBER),
    Endpoint("POST", "/funnel", "funnel", "How far users get", "analyses", _funnel, body=_FUNNEL),
    Endpoint("POST", "/funnel/users", "funnel_users", "Who got to a step, or didn't", "analyses", _funnel_users, body=_USERS),
    Endpoint("POST", "/cohort", "cohort", "Who comes back", "analyses", _cohort, body=_COHORT),
)  # fmt: skip
