"""What is done when it is returned, and may be awaited all the same: `await biz.track.batch([...])`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

__all__ = ["DONE", "Awaited", "AwaitedInt", "AwaitedList", "Done"]

T = TypeVar("T")
S = TypeVar("S", bound="Awaited")


class Awaited:
    """Awaiting it gives itself, at once."""

    __slots__ = ()

    def __await__(self: S) -> Generator[Any, None, S]:
        return self
        yield


class AwaitedList(list[T], Awaited):
    """A list that may be awaited."""

    __slots__ = ()


class AwaitedInt(int, Awaited):
    """A number that may be awaited."""

    __slots__ = ()


class Done:
    """Of a call that gives nothing: awaiting it gives None."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return None
        yield

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "done"


DONE = Done()
