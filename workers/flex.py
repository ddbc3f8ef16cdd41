"""Requests at the flex tier, half the price while the endpoint has capacity to spare: what follows when it has none.

A job either waits, longer each time, or spills: the request goes out again at the usual tier. What was asked for stays
what it was, and so does the content key: the tier shapes the price and the time of an answer, not the answer. What was
served is what the reply says, and that is what is billed.
"""

from __future__ import annotations

import asyncio
import random

import orjson

from corpusmill.llm.errors import CallError

USUAL = "auto"
# In units of the first wait between two attempts (0.5 s by default): 15 s, twice as long each time, 15 min at most.
FIRST, LONGEST = 30, 1800


def at_usual_tier(body: bytes) -> bytes:
    """The same request, at the usual price."""
    return orjson.dumps({**orjson.loads(body), "service_tier": USUAL})


class Patience:
    """How long the requests of a stream wait for flex capacity: all together. Used on the loop only."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._until = 0.0
        self.error: CallError | None = None

    def refused(self, error: CallError, unit_s: float) -> None:
        """There is no capacity. Those that were on their way meanwhile say nothing new."""
        self.error = error
        now = asyncio.get_running_loop().time()
        if now < self._until:
            return
        wait_s = unit_s * min(LONGEST, FIRST * 2**self._in_a_row)
        self._in_a_row = min(self._in_a_row + 1, 10)
        self._until = now + wait_s * random.uniform(1.0, 1.1)  # noqa: S311 - no secret

    def served(self) -> None:
        """There is capacity."""
        self._in_a_row = 0

    @property
    def wait_s(self) -> float:
        """Seconds until the next one may try."""
        return max(0.0, self._until - asyncio.get_running_loop().time())
