"""The current state of things, always: `biz.view`."""

from .door import Views
from .view import ViewDoor

__all__ = ["ViewDoor", "Views"]
