"""The first calls of a kind are few, until one has succeeded.

A wrong key, a missing model or a parameter that the endpoint refuses would otherwise cost a whole window of calls
before the first answer says so.
"""

from __future__ import annotations

import asyncio

PROBES = 5


class Probation:
    """Lets at most `probes` calls be under way until `pass_` is called, then any number. Used on the loop only."""

    def __init__(self, probes: int = PROBES) -> None:
        self.passed = self.suspended = False
        self._free = probes
        self._changed = asyncio.Event()

    async def enter(self) -> None:
        """Wait for one of the probes, which `leave` gives back; once passed there is nothing to wait for."""
        while self.suspended or (not self.passed and self._free <= 0):
            await self._changed.wait()
        self._free -= 1

    def leave(self) -> None:
        """The call is over, or will not be made."""
        self._free += 1
        if not self.passed:
            self._wake()

    def pass_(self) -> None:
        """A call has succeeded: no more holding back."""
        if not self.passed:
            self.passed = True
            self._wake()

    def suspend(self) -> None:
        """Let nobody begin until `go_on`: it is being decided whether there is any use in it."""
        self.suspended = True

    def go_on(self) -> None:
        """It has been decided."""
        self.suspended = False
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
