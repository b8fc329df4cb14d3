"""For tests of your own: a clock that moves when told, and the suite that every log passes."""

from .clock import ManualClock
from .log.contract import LogContract
from .log.memory import MemoryLog

__all__ = ["LogContract", "ManualClock", "MemoryLog"]
