"""Dollars and tokens set aside before they are spent, so that a budget holds over the whole fleet.

The ledger keeps the one account of a job. A shard fetches from it for several calls at once, since each fetch locks
the job's row. What a call really cost moves from reserved to spent when its usage row is written; the rest of its
estimate stays in the purse for the next call, and goes back when the shard ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.records import Reservation

# Calls that one fetch is meant for: many, or as few as there is room for.
CALLS_A_FETCH = (16, 4, 1)
WAIT_S = 0.5


class OverBudget(Exception):
    """The job's budget does not cover a call that may take `amount`."""

    def __init__(self, amount: Amount) -> None:
        self.amount = amount
        super().__init__(amount)


class ShardLost(Exception):
    """The shard is somebody else's by now."""


class Purse:
    """A shard's share of its job's budget. Used on the loop only.

    `reserve` asks the ledger: `ok`, set aside; `wait`, only what others have set aside is in the way, and they may
    need less; `over`, it would exceed the budget whatever they do. `give_back` gives all of this shard's back.
    """

    def __init__(
        self, reserve: Callable[[Amount], Awaitable[Reservation]], give_back: Callable[[], Awaitable[None]]
    ) -> None:
        self._reserve, self._give_back = reserve, give_back
        self._free = NOTHING
        self._under_way = 0
        self._one_at_a_time = asyncio.Lock()
        self._returned = asyncio.Event()

    async def take(self, amount: Amount) -> None:
        """Have an amount for one call; `settle` has to follow.

        Raises:
            OverBudget: the budget does not cover it.
            ShardLost: the lease is over.
        """
        async with self._one_at_a_time:
            while not self._free.covers(amount):
                await self._fetch(amount)
            self._free -= amount
            self._under_way += 1

    def settle(self, amount: Amount, *, cost: Amount) -> None:
        """The call that took an amount is over and has cost `cost` (nothing: it was not made, or is not billed)."""
        self._under_way -= 1
        self._free += amount - cost
        self._returned.set()

    async def _fetch(self, call: Amount) -> None:
        # Before asking: what comes back while the ledger answers must not be missed.
        self._returned.clear()
        for calls in CALLS_A_FETCH:
            amount = (call * calls).beyond(self._free)
            if not amount:
                return
            answer = await self._reserve(amount)
            if answer == "ok":
                self._free += amount
                return
        if answer == "over":
            raise OverBudget(call)
        if answer == "lost":
            raise ShardLost
        await self._make_room()

    async def _make_room(self) -> None:
        """Wait for a call of ours that needs less, or for others; two purses must not wait for each other's rest."""
        if not self._under_way and self._free:
            self._free = NOTHING
            await self._give_back()
            return
        try:
            async with asyncio.timeout(WAIT_S):
                await self._returned.wait()
        except TimeoutError:
            return
