"""Where things stand: goals, experiments, views, streams, alerts, dead letters, and all of it at a glance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import BizError, NotFound
from ..refused import Refused
from .encode import groups, plain
from .endpoint import Asked, Endpoint, Parameter, text

__all__ = ["ENDPOINTS"]

_PAGE = {"type": "integer", "minimum": 0, "maximum": 10_000}
_SINCE = Parameter("since", text(40), 'an instant, or back from now: "28d"')
MOST = 8
_MOST_DAYS = 1_000


def _or_reason(answer: Callable[[], Any]) -> dict[str, Any]:
    """An answer, or the sentence why there is none: one that fails must not hide the others."""
    try:
        return {"value": plain(answer()), "reason": None}
    except BizError as error:
        return {"value": None, "reason": str(error)}


def _info(asked: Asked) -> Any:
    from ... import __version__
    from ..pages import title

    biz = asked.biz
    return {
        "result": {
            "name": title(biz),
            "tenant": biz.store.tenant,
            "timezone": biz.timezone,
            "now": biz.now().isoformat(),
            "version": __version__,
            "position": biz.store.log.head(),
            "scope": asked.scope,
        }
    }


# goals


def _goal(biz: Any, info: Any) -> dict[str, Any]:
    return {**plain(info), "progress": _or_reason(lambda: biz.goal(info.name).progress().run())}


def _goals(asked: Asked) -> Any:
    biz = asked.biz
    return {"result": [_goal(biz, info) for info in biz.goal.list().run()]}


def _goal_one(asked: Asked) -> Any:
    return {"result": _goal(asked.biz, asked.biz.goal(asked.path["name"]).info().run())}


def _goal_history(asked: Asked) -> Any:
    history = asked.biz.goal(asked.path["name"]).history(
        asked.get("since"), asked.get("limit", 90), every=asked.get("every", 1)
    )
    return {"result": plain(history.run())}


# experiments


def _experiments(asked: Asked) -> Any:
    return {"result": plain(asked.biz.experiment.list(asked.get("status")).run())}


def _results(asked: Asked) -> Any:
    one = asked.biz.experiment(asked.path["name"])
    by = asked.get("by")
    found = one.results(cuped=asked.get("cuped", False), by=by).run()
    if by is None:
        return {"result": _judged(found)}
    return {
        "result": [{"key": [plain(key)], "value": _judged(value)} for key, value in found.items()],
        "by": [by],
    }


def _judged(found: Any) -> dict[str, Any]:
    return {**plain(found), "verdict": found.verdict}


def _daily(asked: Asked) -> Any:
    return {"result": plain(asked.biz.experiment(asked.path["name"]).results().daily().run())}


# views, streams, alerts, dead letters


def _views(asked: Asked) -> Any:
    return {"result": plain(asked.biz.view.list().run())}


def _view(asked: Asked) -> Any:
    query = asked.biz.view[asked.path["name"]].limit(asked.get("limit", 100))
    if asked.get("offset"):
        query = query.offset(asked.get("offset"))
    if asked.get("where"):
        query = query.where(asked.get("where"))
    if asked.get("order_by"):
        query = query.order_by(*asked.get("order_by"))
    return {"result": [plain(row) for row in query.run()]}


def _streams(asked: Asked) -> Any:
    return {"result": plain(asked.biz.stream.list().run())}


def _alerts(asked: Asked) -> Any:
    return {"result": plain(asked.biz.alerts.list().run())}


def _dead(asked: Asked) -> Any:
    found = asked.biz.dead_letters.list(asked.get("consumer")).run()
    limit = asked.get("limit", 100)
    return {"result": plain(found[:limit]), "total": len(found)}


def _retry(asked: Asked) -> Any:
    asked.biz.dead_letters.retry(asked.body["id"])
    return {"result": "it is given to its handler again"}


def _discard(asked: Asked) -> Any:
    asked.biz.dead_letters.discard(asked.body["id"])
    return {"result": "it is gone"}


def _keys(asked: Asked) -> Any:
    from ..keys import Keys

    return {"result": plain(Keys(asked.biz.store).list())}


# entities


def _types(asked: Asked) -> Any:
    log, found, after = asked.biz.store.log, [], ""
    while first := log.entities("", after, 1):
        type = first[0].partition("/")[0]
        found.append({"type": type, "count": len(log.entities(f"{type}/"))})
        after = f"{type}/\U0010ffff"
    return {"result": found}


def _type(asked: Asked) -> str:
    name = asked.path["type"]
    if not asked.biz.store.log.entities(f"{name}/", "", 1):
        raise NotFound(f"there is no entity of type {name[:60]!r}")
    return name


def _ids(asked: Asked) -> Any:
    type, log = _type(asked), asked.biz.store.log
    limit, wanted = asked.get("limit", 50), asked.get("q", "")
    after = f"{type}/{asked.get('after')}" if asked.get("after") else ""
    found = log.entities(f"{type}/{wanted}", after, limit + 1)
    if wanted and not found:
        inside = wanted.lower()
        found = [one for one in log.entities(f"{type}/", after) if inside in one.partition("/")[2].lower()]
    more, found = len(found) > limit, found[:limit]
    rows = [{"id": one.partition("/")[2], "version": log.entity_version(one)} for one in found]
    return {"result": rows, "cursor": rows[-1]["id"] if more else None}


def _entity(asked: Asked) -> Any:
    type, id = _type(asked), asked.path["id"]
    handle = asked.biz._entities.type(type)(id)
    version = handle.version().run()
    if not version:
        raise NotFound(f"there is no {type} {id[:60]!r}")
    if asked.get("at") is not None and asked.get("version") is not None:
        raise Refused(400, "give version or at, not both")
    if asked.get("at") is not None:
        state = handle.state_at(asked.get("at")).run()
    else:
        state = handle.state(version=asked.get("version")).run()
    return {"result": {"type": type, "id": id, "version": version, "state": plain(state)}}


def _timeline(asked: Asked) -> Any:
    type, id = _type(asked), asked.path["id"]
    handle = asked.biz._entities.type(type)(id)
    limit = asked.get("limit", 200)
    found = handle.events(from_version=asked.get("from_version", 1), limit=limit).run()
    return {"result": plain(found)}


# at a glance


def _overview(asked: Asked) -> Any:
    biz, since = asked.biz, asked.get("since", "28d")
    unit = "hour" if since == "today" else "day"
    position = biz.store.log.head()
    counts = biz.track.any.count().since(since).by("event").limit(MOST).run()
    events = []
    for name in counts:
        one = biz.track[name]
        events.append(
            {
                "name": name,
                "count": plain(one.count().since(since).vs("prev").run()),
                "users": plain(one.unique().since(since).vs("prev").run()),
                "days": _days(one.count().since(since), unit),
            }
        )
    running = biz.experiment.list(status="running").run()
    return {
        "result": {
            "since": since,
            "unit": unit,
            "now": biz.now().isoformat(),
            "position": position,
            "events": events,
            "metrics": [_metric(biz, name, since, unit) for name in biz.measure.names().run()[:MOST]],
            "goals": [_goal(biz, info) for info in biz.goal.list(status="active").run()],
            "experiments": [
                {
                    "name": one.name,
                    **_or_reason(lambda one=one: _judged(biz.experiment(one.name).results().run())),
                }
                for one in running
            ],
            "alerts": plain(biz.alerts.list().run()),
            "dead_letters": len(biz.dead_letters.list().run()),
        }
    }


def _days(query: Any, unit: str) -> Any:
    """Day by day, or today's hours, each beside that of the period before."""
    return groups(query.by(unit).vs("prev").run(), [unit], _MOST_DAYS)["result"]


def _metric(biz: Any, name: str, since: str, unit: str) -> dict[str, Any]:
    from ...measure.metric import metric_kind

    kind = metric_kind(biz.store, name)
    operation = "avg" if kind == "gauge" else "sum"
    asked = getattr(biz.measure[name], operation)().since(since)
    return {
        "name": name,
        "kind": kind,
        "operation": operation,
        "value": plain(asked.vs("prev").run()),
        "current": plain(biz.measure[name].current().run()) if kind else None,
        "days": _days(asked, unit),
    }


_ID = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": text(1_000, minLength=1)},
}
_LIMIT = Parameter("limit", _PAGE, "how many at most")
_STATUS = {"type": "string", "enum": ["draft", "running", "paused", "stopped", "graduated"]}

ENDPOINTS = (
    Endpoint("GET", "/info", "info", "The business: name, timezone, now", "business", _info),
    Endpoint("GET", "/overview", "overview", "All of it at a glance, with the previous period", "business", _overview, (_SINCE,)),
    Endpoint("GET", "/goals", "goals", "Every goal with its progress", "goals", _goals),
    Endpoint("GET", "/goals/{name}", "goal", "One goal", "goals", _goal_one),
    Endpoint("GET", "/goals/{name}/history", "goal_history", "One point a day", "goals", _goal_history, (
        _SINCE,
        _LIMIT,
        Parameter("every", {"type": "integer", "minimum": 1, "maximum": 1_000}, "7: only each 7th day, counted back from today"),
    )),
    Endpoint("GET", "/experiments", "experiments", "Every experiment", "experiments", _experiments, (Parameter("status", _STATUS, "only those"),)),
    Endpoint("GET", "/experiments/{name}/results", "experiment_results", "How it stands", "experiments", _results, (
        Parameter("by", text(), "for each value of a property"),
        Parameter("cuped", {"type": "boolean"}, "reduce the variance by what was before"),
    )),
    Endpoint("GET", "/experiments/{name}/daily", "experiment_daily", "Cumulative results by day", "experiments", _daily),
    Endpoint("GET", "/views", "views", "Every view", "views", _views),
    Endpoint("GET", "/views/{name}", "view", "A view's rows", "views", _view, (
        Parameter("where", {"type": "object"}, "conditions as JSON", json=True),
        Parameter("order_by", text(), "a field, with - before it downwards", many=True),
        _LIMIT,
        Parameter("offset", _PAGE, "leave out the first so many"),
    )),
    Endpoint("GET", "/streams", "streams", "Every stream: position, lag, watermark, late and dead counts", "streams", _streams),
    Endpoint("GET", "/alerts", "alerts", "Every alert and its state", "alerts", _alerts),
    Endpoint("GET", "/entities", "entity_types", "The types of entities that have events", "entities", _types),
    Endpoint("GET", "/entities/{type}", "entity_ids", "Search ids: those that begin with q, else those that hold it", "entities", _ids, (
        Parameter("q", text(), "text of the id"),
        Parameter("after", text(500), "the cursor of the page before"),
        Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1_000}, "50 where nothing is said"),
    )),
    Endpoint("GET", "/entities/{type}/{id}", "entity", "The state now, at a version, or at an instant", "entities", _entity, (
        Parameter("version", {"type": "integer", "minimum": 0, "maximum": 2**53}, "after so many events"),
        Parameter("at", text(40), "an instant"),
    )),
    Endpoint("GET", "/entities/{type}/{id}/events", "entity_events", "What happened, in order", "entities", _timeline, (
        Parameter("from_version", {"type": "integer", "minimum": 1, "maximum": 2**53}, "from this version on"),
        _LIMIT,
    )),
    Endpoint("GET", "/dead-letters", "dead_letters", "Records that a handler could not take", "dead letters", _dead, (
        Parameter("consumer", text(), "only that consumer's"), _LIMIT,
    )),
    Endpoint("GET", "/keys", "keys", "The keys; of tokens only their first characters", "business", _keys, scope="admin"),
    Endpoint("POST", "/dead-letters/retry", "retry_dead_letter", "Give it to its handler again", "dead letters", _retry, body=_ID, scope="admin"),
    Endpoint("POST", "/dead-letters/discard", "discard_dead_letter", "Forget it", "dead letters", _discard, body=_ID, scope="admin"),
)  # fmt: skip
