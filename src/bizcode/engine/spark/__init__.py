"""Questions answered by Spark SQL over the same segments: `Business(..., engine="spark")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cluster import check_address

if TYPE_CHECKING:
    from .engine import SparkEngine

__all__ = ["SparkEngine", "check_address"]


def __getattr__(name: str) -> Any:
    # The engine needs the extra; an address is checked before that.
    if name == "SparkEngine":
        from .engine import SparkEngine

        return SparkEngine
    raise AttributeError(name)
