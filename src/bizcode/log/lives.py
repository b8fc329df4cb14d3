"""The open logs of this process: they survive forks and are closed when the interpreter ends."""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from ..errors import BizError

__all__ = ["enroll"]


class _Life(Protocol):
    def before_fork(self) -> None: ...
    def after_fork(self, child: bool) -> None: ...
    def close(self) -> None: ...


_live: WeakSet[_Life] = WeakSet()
_forking: list[_Life] = []


def enroll(life: _Life) -> None:
    """Look after it until it is gone."""
    _live.add(life)


def _before_fork() -> None:
    for life in sorted(_live, key=id):
        _forking.append(life)
        life.before_fork()


def _after_fork(child: bool) -> None:
    while _forking:
        _forking.pop().after_fork(child)


def _close_all() -> None:
    for life in list(_live):
        with suppress(BizError):
            life.close()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(False),
    after_in_child=lambda: _after_fork(True),
)
atexit.register(_close_all)
