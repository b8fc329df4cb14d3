"""How are we performing? `biz.measure`: samples, gauges and counters, and their numbers."""

from .door import Measure
from .metric import MetricDoor, MetricSelection

__all__ = ["Measure", "MetricDoor", "MetricSelection"]
