"""How long one more request would wait at a gate, guessed from what Redis said last: a pool sends it where least."""

from __future__ import annotations

import math
from typing import NamedTuple

from corpusmill.limits.bucket import Reserved, Why
from corpusmill.limits.scope import Rates


class Queue(NamedTuple):
    """What waits at a gate already."""

    requests: int
    tokens: int


class Outlook:
    """The levels of a bucket as they were told last; `wait_s` reckons on from there. Times are the loop's."""

    def __init__(self) -> None:
        self._levels: tuple[float, float] | None = None
        self._at = 0.0
        self.cool_until = 0.0

    def note(self, reserved: Reserved, now: float) -> None:
        """Redis has answered."""
        self._levels, self._at = (reserved.level_requests, reserved.level_tokens), now
        if reserved.why in (Why.COOL_DOWN, Why.DAY):
            self.cool_until = now + reserved.wait_s

    def wait_s(
        self, rates: Rates | None, tokens: int, queue: Queue, now: float, *, burst_s: float, floor_s: float
    ) -> float:
        """Seconds that a request of `tokens` would wait behind `queue`; infinite for one that is never granted.

        `rates`: what this process may expect to get, a minute. `floor_s`: what has to stay in the bucket, in seconds.
        """
        if rates is None:
            return max(0.0, self.cool_until - now)
        if 0 < rates.tpm < tokens:
            return math.inf
        return max(
            self.cool_until - now,
            self._one(0, rates.rpm / 60, 1, queue.requests, now, burst_s, floor_s),
            self._one(1, rates.tpm / 60, tokens, queue.tokens, now, burst_s, floor_s),
            0.0,
        )

    def _one(
        self, which: int, rate: float, amount: int, queued: int, now: float, burst_s: float, floor_s: float
    ) -> float:
        """The wait for one of requests and tokens."""
        if not rate:
            return 0.0
        capacity = max(1.0, rate * burst_s)
        level = capacity
        if self._levels is not None:
            level = min(capacity, self._levels[which] + (now - self._at) * rate)
        return (queued + min(amount + floor_s * rate, capacity) - level) / rate
