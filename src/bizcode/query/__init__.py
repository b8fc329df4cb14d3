"""Lazy questions and their answers."""

from .aggregate import AggregateQuery
from .base import Lazy, Query
from .compare import Comparison
from .events import EventsQuery
from .selection import Selection

__all__ = ["AggregateQuery", "Comparison", "EventsQuery", "Lazy", "Query", "Selection"]
