"""What are users doing? `biz.track`: events, counted, grouped and listed."""

from .door import Track
from .event import EventDoor, EventSelection

__all__ = ["EventDoor", "EventSelection", "Track"]
