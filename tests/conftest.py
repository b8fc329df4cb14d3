"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

from bizcode import Business, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock("2024-03-10T12:00:00")


@pytest.fixture
def biz(tmp_path, clock):
    """An empty business in a directory of its own, with a clock that stands still and no worker."""
    with Business(tmp_path / "acme", clock=clock, worker=False) as business:
        yield business
