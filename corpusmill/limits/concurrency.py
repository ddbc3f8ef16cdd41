"""How many calls may be under way at an endpoint that tells no limits: found out by trying, as TCP does.

vLLM, Ollama and many gateways send no limit headers, so there is no rate to keep to; what they have is a point from
which more calls at once only wait for each other. The window starts small and doubles with each round of calls (slow
start) until they take twice as long as at their quickest, or one is refused; then it is set to where that began. From
there it grows by one a round, and shrinks by a fifth when calls take three times as long, by half when one is refused
or times out. Never below one.

The window is this process's own: each worker finds its part by itself, since the endpoint's slowness, which all of
them see, is what tells it. Only a cool-down is shared by the fleet, through the bucket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

START = 2.0
SLOWER = 0.8
REFUSED = 0.5
# Calls that take so many times their quickest wait for each other at the endpoint, and more of them gain nothing.
SLOWS, CROWDED = 2.0, 3.0
# Below this, what is measured is this machine's own noise.
NOISE_S = 0.05
# A round is judged by its mean: single calls vary with the length of their answers.
LEAST_ROUND = 4

Ending = Literal["answered", "refused", "untold"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Leave for one call. `age`: how often the window had shrunk when it was given."""

    age: int


class Concurrency:
    """The window of one process towards one endpoint and model. Used on the loop only."""

    def __init__(self) -> None:
        self._limit, self._threshold = START, float("inf")
        self._under_way, self._age = 0, 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._round: list[float] = []
        self._quickest = float("inf")
        self._filled, self._begun = False, START

    @property
    def limit(self) -> int:
        """Calls that may be under way at once."""
        return max(1, int(self._limit))

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiters)

    def wait_s(self) -> float:
        """How long one more call would wait, about."""
        if self._under_way < self.limit:
            return 0.0
        latency_s = self._quickest if self._quickest < float("inf") else 1.0
        return (len(self._waiters) + 1) / self.limit * latency_s

    async def enter(self) -> Place:
        """Wait for a place; `leave` gives it back. Cancelling is safe."""
        if self._under_way >= self.limit or self._waiters:
            await self._turn()
        else:
            self._under_way += 1
        self._filled = self._filled or self._under_way >= self.limit
        return Place(self._age)

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free()
            else:
                self._waiters.remove(turn)
            raise

    def leave(self, place: Place, ending: Ending, latency_s: float = 0.0) -> None:
        """Give a place back, and say how the call ended; `untold`: that says nothing about the endpoint's load."""
        # What was sent before the window shrank last tells of the window as it was.
        if place.age == self._age:
            if ending == "refused":
                self._refused()
            elif ending == "answered":
                self._answered(latency_s)
        self._free()

    def _free(self) -> None:
        self._under_way -= 1
        while self._waiters and self._under_way < self.limit:
            turn = self._waiters.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)

    def _refused(self) -> None:
        """Halve it, and come to that from below: after a refusal everybody pauses, and should not come back at once."""
        self._threshold = max(1.0, self._limit * REFUSED)
        self._shrink_to(min(START, self._threshold))

    def _answered(self, latency_s: float) -> None:
        # A window that was not used up in this round is proved by nobody.
        if self._filled:
            self._limit += 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._round.append(latency_s)
        if len(self._round) >= max(LEAST_ROUND, self._begun):
            self._judge(sum(self._round) / len(self._round))
            self._begin_round()

    def _begin_round(self) -> None:
        self._round.clear()
        self._begun = self._limit
        self._filled = self._under_way >= self.limit

    def _judge(self, mean_s: float) -> None:
        """A round is over. In a window this small calls hardly wait for each other: so long they take by themselves."""
        if self._begun <= START * 2:
            if mean_s > CROWDED * self._quickest:
                self._threshold = float("inf")  # all that was found out before is void
            self._quickest = mean_s
        self._quickest = min(mean_s, self._quickest)
        times = mean_s / max(NOISE_S, self._quickest)
        if times > SLOWS and self._limit < self._threshold:
            # Doubling went past the point from which more calls only wait: this is where that was.
            self._shrink_to(max(1.0, self._begun * SLOWS / times))
        elif times > CROWDED:
            self._shrink_to(max(1.0, self._begun * SLOWER))
        if times > SLOWS:
            self._threshold = self._limit

    def _shrink_to(self, limit: float) -> None:
        self._limit = limit
        self._age += 1
        self._begin_round()
