"""The log: one durable, totally ordered sequence of facts, and the state that moves with it."""

from .interface import Appended, Held, Locks, Log, Pending, Reader, Transaction

__all__ = ["Appended", "Held", "Locks", "Log", "Pending", "Reader", "Transaction"]
