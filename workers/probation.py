"""The first calls of a kind are few, until one has succeeded.

A wrong key, a missing model or a parameter that the endpoint refuses would otherwise cost a whole window of calls
before the first answer says so. A refusal comes quickly, an answer may take half a minute: so while nothing has failed,
the few become more, or the limit would go unused until then.
"""

from __future__ import annotations

import asyncio

PROBES = 5
# While none has failed, so many are twice as many after so long, up to a quarter of the usual window. They begin to be
# more after as long: most refusals have come by then.
TWICE_AFTER_S = 0.15
MOST = 250
STEP_S = 0.02


class Probation:
    """Lets a few calls be under way until `pass_` is called, then any number. Used on the loop only."""

    def __init__(self, probes: int = PROBES) -> None:
        self.passed = self.suspended = False
        self._probes, self._most, self._free = probes, float(probes), probes
        self._failed = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    async def enter(self) -> None:
        """Wait for one of the probes, which `leave` gives back; once passed there is nothing to wait for."""
        while self.suspended or (not self.passed and self._free <= 0):
            self._grow_on()
            await self._changed.wait()
        self._free -= 1

    def leave(self) -> None:
        """The call is over, or will not be made."""
        self._free += 1
        if not self.passed:
            self._wake()

    def failed(self) -> None:
        """A call has failed: back to the few, until one succeeds."""
        if not (self.passed or self._failed):
            self._failed = True
            self._free -= int(self._most) - self._probes

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

    def _grow_on(self) -> None:
        if self._timer is None and not (self.passed or self._failed or self._most >= MOST):
            wait_s = TWICE_AFTER_S if self._most == self._probes else STEP_S
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._grow)

    def _grow(self) -> None:
        self._timer = None
        if self.passed or self._failed:
            return
        before = int(self._most)
        self._most = min(MOST, self._most * 2 ** (STEP_S / TWICE_AFTER_S))
        self._free += int(self._most) - before
        self._wake()
        self._grow_on()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
