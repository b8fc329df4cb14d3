"""What every log must do, as tests: derive from `LogContract` and override its fixture `log`.

class TestMyLog(LogContract):
    @pytest.fixture
    def log(self):
        log = MyLog()
        yield log
        log.close()
"""

from __future__ import annotations

from .concurrency import ConcurrencyContract
from .entities import EntitiesContract
from .locks import LocksContract
from .records import RecordsContract
from .state import StateContract

__all__ = ["LogContract"]


class LogContract(RecordsContract, EntitiesContract, StateContract, ConcurrencyContract, LocksContract):
    """The whole contract of `bizcode.log.Log`, one behaviour per test."""
