"""A real server on a free port, over a business whose clock stands still."""

from __future__ import annotations

import httpx
import pytest

from bizcode import Business, ManualClock
from bizcode.serve import Keys, background

NOW = "2024-03-10T12:00:00"


@pytest.fixture
def shop(tmp_path):
    with Business(tmp_path / "shop", clock=ManualClock(NOW), worker=False) as biz:
        yield biz


@pytest.fixture
def key(shop):
    return Keys(shop.store).create("write", "website")


@pytest.fixture
def url(shop):
    with background(shop) as found:
        yield found


@pytest.fixture
def http(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
