"""A business on the network: ingestion for the SDKs that exist, a JSON API, a dashboard.

from bizcode.serve import app
api = app(biz)  # ASGI: run it, or mount it into an application of your own

Needs `pip install bizcode[serve]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import App, app
    from .keys import Key, Keys
    from .server import background, run

__all__ = ["App", "Key", "Keys", "app", "background", "run"]

_LAZY = {
    "App": "application",
    "Key": "keys",
    "Keys": "keys",
    "app": "application",
    "background": "server",
    "run": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from ..errors import BizError

    try:
        module = import_module(f".{_LAZY[name]}", __name__)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "uvicorn":
            raise
        raise BizError("this part of bizcode.serve needs uvicorn: pip install 'bizcode[serve]'") from error
    return getattr(module, name)
