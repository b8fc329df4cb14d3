"""A store of segments over a log in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bizcode.log.sqlite import open_log
from bizcode.segments import SegmentStore


@pytest.fixture
def store(tmp_path) -> Iterator[SegmentStore]:
    """An empty store."""
    log = open_log(tmp_path / "acme")
    yield SegmentStore(tmp_path / "acme", log)
    log.close()
