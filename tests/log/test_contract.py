"""Every implementation of the log keeps the one contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bizcode.log import Log
from bizcode.log.contract import LogContract
from bizcode.log.memory import MemoryLog
from bizcode.log.sqlite import open_log


class TestMemoryLog(LogContract):
    @pytest.fixture
    def log(self) -> Iterator[Log]:
        log = MemoryLog()
        yield log
        log.close()


class TestSqliteLog(LogContract):
    @pytest.fixture(params=["commit", "disk", "buffered"])
    def log(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Log]:
        log = open_log(tmp_path / "acme", request.param)
        yield log
        log.close()
