"""What the tests of experiments share."""

from __future__ import annotations

import pytest


@pytest.fixture
def pricing(biz):
    """A running experiment on purchases."""
    return biz.experiment.define(
        "pricing", variants=["control", "value"], goal=biz.track.Purchase.unique(), autostart=True
    )
