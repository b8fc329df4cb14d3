"""Business as code: track, measure, experiment, goals, streams, views and entities over one durable log.

from bizcode import Business
biz = Business("acme")
biz.track.Signup(user_id="u1", plan="pro")
biz.track.Signup.count().since("7d").by("plan").run()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    AlreadyExists,
    BizError,
    Conflict,
    InvalidName,
    InvalidQuery,
    InvalidTime,
    InvalidValue,
    NotFound,
    QuotaExceeded,
    StorageError,
)

if TYPE_CHECKING:
    from .business import Business
    from .clock import ManualClock
    from .plan.fields import prop, this
    from .startup import Startup

    biz: Business

__all__ = [
    "AlreadyExists",
    "BizError",
    "Business",
    "Conflict",
    "InvalidName",
    "InvalidQuery",
    "InvalidTime",
    "InvalidValue",
    "ManualClock",
    "NotFound",
    "QuotaExceeded",
    "Startup",
    "StorageError",
    "prop",
    "this",
]

__version__ = "0.1.0"

_LAZY = {
    "Business": "business",
    "ManualClock": "clock",
    "Startup": "startup",
    "prop": "plan.fields",
    "this": "plan.fields",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    elif name == "biz":
        from .business import Business

        found = Business()
    elif name in ("load_ipython_extension", "unload_ipython_extension"):
        found = getattr(import_module(".ipython", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
