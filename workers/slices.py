"""A few small replies a turn of the loop: hundreds that come at once would hold it up for longer than they may."""

from __future__ import annotations

import asyncio

# Read, kept and booked, one takes an eighth of a millisecond, and the turn has its sockets to read too.
A_TURN = 64


class Slices:
    """Spreads work over turns of the loop. Used on the loop only."""

    def __init__(self, size: int = A_TURN) -> None:
        self._size, self._taken = size, 0

    async def enter(self) -> None:
        """Return in a turn that has room for one more.

        What follows is paid for, so nobody is called off here: who is cancelled enters at once, and is cancelled where
        he waits next.
        """
        cancelled = False
        while self._taken >= self._size and not cancelled:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                cancelled = True
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._taken += 1
        caller = asyncio.current_task()
        if cancelled and caller is not None:
            caller.cancel()

    def _next_turn(self) -> None:
        self._taken = 0
