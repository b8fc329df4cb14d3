"""What a client is told when a request can't be taken: a status, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AlreadyExists, BizError, Conflict, NotFound, QuotaExceeded, StorageError

__all__ = ["Refused", "refused"]

_STATUS: tuple[tuple[type[BizError], int], ...] = (
    (NotFound, 404),
    (AlreadyExists, 409),
    (Conflict, 409),
    (QuotaExceeded, 429),
    (StorageError, 503),
)
_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported",
    421: "misdirected",
    429: "too_many",
    503: "unavailable",
}


class Refused(Exception):
    """A request that is answered with a status of 400 or more.

    Args:
        status: the HTTP status.
        message: one sentence: what was wrong, and what would be right.
        headers: beside the usual ones, like Retry-After.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    @property
    def code(self) -> str:
        return _CODES.get(self.status, "error")

    def body(self) -> dict[str, Any]:
        """For the JSON API."""
        return {"error": {"code": self.code, "message": self.message}}

    def wire(self) -> dict[str, Any]:
        """For the SDKs: PostHog's read `detail`, Segment's read `code` and `message`."""
        return {"type": self.code, "code": self.code, "detail": self.message, "message": self.message}


def refused(error: BizError) -> Refused:
    """The library's own error as an answer."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 400)
    return Refused(status, str(error), {"retry-after": "60"} if status in (429, 503) else None)
