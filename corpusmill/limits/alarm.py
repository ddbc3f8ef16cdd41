"""One sleeper that others can wake earlier than it meant to."""

from __future__ import annotations

import asyncio

NEVER = float("inf")


class Alarm:
    """Rings at the earliest time that anybody has set since it rang last; times are the loop's."""

    def __init__(self) -> None:
        self._at = NEVER
        self._earlier = asyncio.Event()

    def ring_by(self, at: float) -> None:
        """Ring at `at`, or earlier if that was set already."""
        if at < self._at:
            self._at = at
            self._earlier.set()

    async def rung(self) -> None:
        """Sleep until it rings."""
        loop = asyncio.get_running_loop()
        while (left_s := self._at - loop.time()) > 0:
            self._earlier.clear()
            try:
                async with asyncio.timeout(None if left_s == NEVER else left_s):
                    await self._earlier.wait()
            except TimeoutError:
                break
        self._at = NEVER
