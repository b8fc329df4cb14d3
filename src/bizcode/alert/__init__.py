"""Alerts: a condition on a metric or on any query, told once per incident."""

from .alerts import Alert, AlertInfo, Alerts
from .define import define
from .rule import AlertEvent

__all__ = ["Alert", "AlertEvent", "AlertInfo", "Alerts", "define"]
