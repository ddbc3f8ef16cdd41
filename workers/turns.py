"""Who may hold a place in the window while it waits for the limiter's leave.

Every stream has a few turns of its own, so that a slow limit cannot take the window from other streams. Beyond them
they share a reserve: a stream that has the process to itself asks for hundreds of grants in one round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Reserve:
    """The turns that belong to no stream. Used on the loop only."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: dict[Turns, None] = {}

    def lend(self) -> bool:
        """Lend one; False: none is left."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def take_back(self) -> None:
        """One comes back: on to the stream that has waited longest."""
        self._free += 1
        for turns in list(self._waiting):
            turns.serve()
            if not self._free:
                break

    def await_by(self, turns: Turns, *, waits: bool) -> None:
        """Whether a stream waits; one that was served and still waits goes to the end of the line."""
        self._waiting.pop(turns, None)
        if waits:
            self._waiting[turns] = None


class Turns:
    """The turns of one stream, as an `async with`: `own` at least, first come, first served. Used on the loop only."""

    def __init__(self, own: int, reserve: Reserve) -> None:
        self._own, self._reserve = own, reserve
        self._lent = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        """Wait for one."""
        if not self._waiters and self._take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        if len(self._waiters) == 1:
            self._reserve.await_by(self, waits=True)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self._give_back()

    def serve(self) -> None:
        """Let the first in line have what there is."""
        while self._waiters and self._waiters[0].done():
            self._waiters.popleft()  # called off meanwhile
        if self._waiters and self._take():
            self._waiters.popleft().set_result(None)
        self._reserve.await_by(self, waits=bool(self._waiters))

    def _take(self) -> bool:
        if self._own:
            self._own -= 1
            return True
        lent = self._reserve.lend()
        self._lent += lent
        return lent

    def _give_back(self) -> None:
        if self._lent:
            self._lent -= 1
            self._reserve.take_back()
        else:
            self._own += 1
            if self._waiters:
                self.serve()
