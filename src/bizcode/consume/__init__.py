"""Everything that reacts: named followers of the log whose effects and position commit together."""

from .consumer import Consumer, Handler, Pattern
from .consumers import Consumers
from .dead import DeadLetter
from .subscription import Subscription

__all__ = ["Consumer", "Consumers", "DeadLetter", "Handler", "Pattern", "Subscription"]
