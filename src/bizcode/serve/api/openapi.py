"""The OpenAPI document, made of the endpoints themselves."""

from __future__ import annotations

from typing import Any

from .endpoint import Endpoint

__all__ = ["document"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_REFUSALS = {
    "400": "The request says something that can't be; the message says what",
    "401": "No token, or an unknown one",
    "403": "The token may not, or the request comes from another site",
    "404": "There is nothing of that name",
    "408": "The body took too long to arrive",
    "409": "The state doesn't allow it",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "429": "Too often, or past the quota; Retry-After says when",
    "503": "The store can't answer now",
}


def document(endpoints: tuple[Endpoint, ...], version: str, base: str) -> dict[str, Any]:
    """The whole document. `base` is the path under which the application is mounted."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bizcode",
            "version": version,
            "description": "A business's events, metrics, funnels, cohorts, goals, experiments, views and entities. "
            "/live?events=NAME&measures=NAME&views=NAME&after=POSITION is a stream of server-sent events.",
        },
        "servers": [{"url": f"{base}/api/v1"}],
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
        "paths": paths,
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in endpoint.parts
        if part.startswith("{")
    ]
    for one in endpoint.parameters:
        schema: Any = {"type": "array", "items": one.schema} if one.many else one.schema
        made: dict[str, Any] = {
            "name": one.name, "in": "query", "required": one.required, "description": one.description,
        }  # fmt: skip
        parameters.append(
            made | ({"content": {"application/json": {"schema": schema}}} if one.json else {"schema": schema})
        )
    answers: dict[str, Any] = {
        "200": {"description": "The answer", "content": {"application/json": {"schema": {"type": "object"}}}}
    }
    for status, description in _REFUSALS.items():
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        answers[status] = {"description": description, "content": content}
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"Scope: {endpoint.scope}.",
        "tags": [endpoint.tag],
        "parameters": parameters,
        "responses": answers,
    }
    if endpoint.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return found
