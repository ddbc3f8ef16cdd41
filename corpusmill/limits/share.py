"""What one process may send by itself while Redis is away: its share of the limit, never more."""

from __future__ import annotations

import time
from collections.abc import Callable

from corpusmill.limits.scope import Rates


class Share:
    """A token bucket in this process's memory that starts empty: the fleet's limit over the processes last seen."""

    def __init__(
        self, rates: Rates, *, processes: int, burst_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._at = clock()
        self._requests = _Level(rates.rpm / 60 / max(1, processes), burst_s)
        self._tokens = _Level(rates.tpm / 60 / max(1, processes), burst_s)

    def take(self, tokens: int) -> bool:
        """Take one request of `tokens` if the share holds it; one larger than the share passes when that is full."""
        self._refill()
        if not (self._requests.holds(1) and self._tokens.holds(tokens)):
            return False
        self._requests.level -= 1
        self._tokens.level -= tokens
        return True

    def cool(self, seconds: float) -> None:
        """Give nothing for `seconds`, then start from empty."""
        self._refill()
        self._at = max(self._at, self._clock() + seconds)
        for level in (self._requests, self._tokens):
            level.level = min(level.level, 0)

    def _refill(self) -> None:
        now = self._clock()
        if now <= self._at:
            return
        for level in (self._requests, self._tokens):
            level.level = min(level.capacity, level.level + (now - self._at) * level.rate)
        self._at = now


class _Level:
    """One dimension; a rate of 0 is no limit."""

    def __init__(self, rate: float, burst_s: float) -> None:
        self.rate, self.capacity, self.level = rate, max(1.0, rate * burst_s), 0.0

    def holds(self, amount: int) -> bool:
        return self.rate == 0 or self.level >= min(amount, self.capacity)
