"""A bucket as the gate uses it: numbered calls, settled exactly once, made anew when Redis has lost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from corpusmill.limits.bucket import Ask, Bucket, BucketUnknown, Reserved, Settlement, Slowdown
from corpusmill.limits.refusals import strongest
from corpusmill.limits.scope import Limits, Priority, Rates, Scope
from corpusmill.limits.tab import Tab

log = logging.getLogger(__name__)

PRESENT_EVERY_S = 2.0

FirstUse = Callable[[Scope], Awaitable[bool]]


async def not_known_to_be_new(_scope: Scope) -> bool:
    """Nobody can say whether a scope was drawn from before: its bucket starts empty, like one that Redis has lost."""
    return False


class Link:
    """What one process has to say to its bucket; every method may raise RedisError or OSError and be called again.

    `rates` are the limits as last heard, None before Redis has ever answered; `processes` how many drew from the
    bucket when Redis answered last. `first_use` is asked once, and must say yes to one process only, ever.
    """

    def __init__(self, bucket: Bucket, limits: Limits, first_use: FirstUse) -> None:
        self._bucket, self._limits, self._first_use = bucket, limits, first_use
        self.tab = Tab()
        self.rates: Rates | None = None
        self.processes = 1
        self._first: bool | None = None
        self._untold = False
        self._calls = 0
        self._unconfirmed: tuple[int, Settlement] | None = None
        self._slowdown: Slowdown | None = None
        self._present_at = float("-inf")

    def slow_down(self, what: Slowdown) -> None:
        """Slow the fleet down with the next call."""
        self._slowdown = strongest(self._slowdown, what)

    def heed(self, limits: Limits) -> None:
        """Tell the bucket other limits with the next call."""
        self._limits, self._untold = limits, True

    async def configure(self) -> None:
        """Make the bucket if it is not there: empty, unless nobody in the world has drawn from it before."""
        limits = self._limits
        first = self.rates is None and await self._is_first()
        self.rates = await self._bucket.configure(limits, first=first)
        # Others may have been said while Redis answered.
        self._untold = limits is not self._limits

    async def _is_first(self) -> bool:
        if self._first is None:
            self._first = await self._first_use(self._bucket.scope)
        return self._first

    async def settle(self) -> None:
        """Deliver slowdowns and settlements, each exactly once."""
        await self._ensure()
        try:
            await self._deliver()
        except BucketUnknown:
            await self._begin_again()
            await self._deliver()

    async def reserve(
        self, asks: Mapping[Priority, Sequence[Ask]], floors_s: Mapping[Priority, float]
    ) -> dict[Priority, Reserved]:
        """Reserve for waiters. One that times out is not asked for again: what it took in vain refills by itself."""
        await self._ensure()
        try:
            reserved = await self._bucket.reserve(self._next(), asks, floors_s)
        except BucketUnknown:
            await self._begin_again()
            reserved = await self._bucket.reserve(self._next(), asks, floors_s)
        self.rates = next(iter(reserved.values())).rates
        return reserved

    async def be_present(self) -> None:
        """Be counted, every other second."""
        now = asyncio.get_running_loop().time()
        if now - self._present_at > PRESENT_EVERY_S:
            self.processes = await self._bucket.present()
            self._present_at = now

    async def _ensure(self) -> None:
        if self.rates is None or self._untold:
            await self.configure()

    async def _deliver(self) -> None:
        if (slowdown := self._slowdown) is not None:
            await self._bucket.slow_down(slowdown)
            self._slowdown = None if self._slowdown is slowdown else self._slowdown
        if self._unconfirmed is None and (what := self.tab.take()) is not None:
            self._unconfirmed = (self._next(), what)
        if self._unconfirmed is not None:
            # After a time-out it may have been carried out already: the same number makes that harmless.
            self.rates = await self._bucket.settle(*self._unconfirmed)
            self._unconfirmed = None

    async def _begin_again(self) -> None:
        log.warning("redis has lost the bucket of model=%s: a new one starts empty", self._bucket.scope.model)
        self._unconfirmed = None
        self.tab.forget()
        await self.configure()

    def _next(self) -> int:
        self._calls += 1
        return self._calls
