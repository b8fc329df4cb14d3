"""What the parts of the contract share."""

from __future__ import annotations

from typing import Any

import pytest

from ...record import Draft
from ..interface import Log

__all__ = ["Contract", "event", "happened", "positions"]


class Contract:
    """A suite over one fresh, empty log."""

    @pytest.fixture
    def log(self) -> Log:
        raise pytest.UsageError("override the fixture `log` with a fresh, empty log")


def event(name: str = "Signup", **fields: Any) -> Draft:
    """A draft of a tracked event."""
    return Draft(**{"kind": "event", "name": name, "time": 1_700_000_000_000_000, "data": "{}", **fields})


def happened(entity: str, name: str = "Order.created", **fields: Any) -> Draft:
    """A draft of an entity's event."""
    return event(name, kind="entity", entity=entity, **fields)


def positions(rows: Any) -> list[int]:
    """Where records or answers stand."""
    return [row.position for row in rows]
