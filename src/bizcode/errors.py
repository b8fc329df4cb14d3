"""The errors that reach a user, all derived from BizError."""

__all__ = [
    "AlreadyExists",
    "BizError",
    "Conflict",
    "InvalidName",
    "InvalidQuery",
    "InvalidTime",
    "InvalidValue",
    "NotFound",
    "QuotaExceeded",
    "StorageError",
]


class BizError(Exception):
    """The base of every error that bizcode raises on purpose."""


class InvalidName(BizError, ValueError):
    """A name (of an event, metric, property, view, ...) that can't be used."""


class InvalidValue(BizError, ValueError):
    """A value that can't be stored; the message names the path to it."""


class InvalidTime(BizError, ValueError):
    """An instant, duration or range that can't be read; the message lists the forms."""


class InvalidQuery(BizError, ValueError):
    """A question that has no answer as asked: unknown operator, contradicting range, missing argument."""


class NotFound(BizError, LookupError):
    """Nothing is defined or stored under that name."""


class AlreadyExists(BizError):
    """Something else is already defined under that name."""


class Conflict(BizError):
    """Another writer got there first, or the object's state doesn't allow the step."""


class QuotaExceeded(BizError):
    """The tenant's quota would be passed; nothing was stored."""


class StorageError(BizError):
    """The store can't be read or written: missing, foreign, newer, read-only, full or corrupt."""
