"""The log in PostgreSQL keeps the one contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bizcode.log import Log
from bizcode.log.contract import LogContract


class TestPostgresLog(LogContract):
    @pytest.fixture
    def log(self, url: str) -> Iterator[Log]:
        from bizcode.log.postgres import open_postgres

        log = open_postgres(url)
        yield log
        log.close()
