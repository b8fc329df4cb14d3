"""How a pipeline treats time and failure, and what that means where two become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Options", "of_join", "of_side"]

MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """Times in microseconds."""

    out_of_order: int = 0
    lateness: int = 0
    idle: int = MINUTE
    late: Callable[[Any], Any] | None = None
    retries: int = 3
    backoff: int = 1_000_000
    on_error: Callable[[BaseException, Any], Any] | None = None


def of_join(joined: Options, left: Options, right: Options) -> Options:
    """Of a join: what its sides say holds for it too."""
    return replace(
        joined,
        lateness=max(joined.lateness, left.lateness, right.lateness),
        late=joined.late or left.late or right.late,
        on_error=joined.on_error or left.on_error or right.on_error,
    )


def of_side(joined: Options, side: Options) -> Options:
    """Of a side: what is said of a watermark after the join is meant for the sources, which have one."""
    return replace(
        side,
        out_of_order=max(side.out_of_order, joined.out_of_order),
        idle=joined.idle if side.idle == MINUTE else side.idle,
    )
