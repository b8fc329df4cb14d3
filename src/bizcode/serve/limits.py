"""How often a client may ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from .refused import Refused

__all__ = ["Limiter"]

_MOST = 50_000


class Limiter:
    """A bucket of tokens for each client, filled at `rate` a second up to `burst`.

    >>> limiter = Limiter(1, 2, clock=lambda: 0.0)
    >>> [limiter.take("a") for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str, cost: float = 1.0) -> bool:
        """Whether the client may; what is taken is gone."""
        now = self._clock()
        left = self._left(client, now)
        if left < cost:
            return False
        if client not in self._buckets and len(self._buckets) >= _MOST:
            self._forget(now)
        self._buckets[client] = (left - cost, now)
        return True

    def spent(self, client: str) -> bool:
        """Whether nothing is left."""
        return self._left(client, self._clock()) < 1

    def check(self, client: str) -> None:
        """Raises Refused when the client asks too often."""
        if not self.take(client):
            raise Refused(429, f"more than {self.rate:g} requests a second: slow down", {"retry-after": "1"})

    def _left(self, client: str, now: float) -> float:
        left, then = self._buckets.get(client, (self.burst, now))
        return min(self.burst, left + (now - then) * self.rate)

    def _forget(self, now: float) -> None:
        """Full buckets need not be remembered; if that doesn't help, nobody's is."""
        kept = {
            client: kept for client, kept in self._buckets.items() if self._left(client, now) < self.burst
        }
        self._buckets = kept if len(kept) < _MOST else {}
