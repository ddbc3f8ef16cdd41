"""One process without Redis: its waiters are served from its own share of the limit."""

from __future__ import annotations

import asyncio
import logging
from itertools import takewhile

from redis.exceptions import RedisError

from corpusmill.limits.bucket import Slowdown
from corpusmill.limits.ending import end
from corpusmill.limits.link import Link
from corpusmill.limits.scope import Grant
from corpusmill.limits.share import Share
from corpusmill.limits.waiting import Waiting

log = logging.getLogger(__name__)

AT_MOST = 256
TICK_S = 0.02
RECONNECT_S = 0.25


class Alone:
    """Takes the bucket's place while Redis is away. With limits unknown (it never answered) nobody is served."""

    def __init__(self, link: Link, waiting: Waiting, *, model: str) -> None:
        self._link, self._waiting, self._model = link, waiting, model
        self._share: Share | None = None

    async def serve(self, error: Exception, *, burst_s: float) -> None:
        """Serve the waiters until Redis answers again."""
        log.warning("limiter alone model=%s processes=%d: %s", self._model, self._link.processes, error)
        if self._link.rates is not None:
            self._share = Share(self._link.rates, processes=self._link.processes, burst_s=burst_s)
        answered = asyncio.create_task(self._until_redis_answers())
        try:
            while not answered.done():
                self._grant()
                await asyncio.wait({answered}, timeout=TICK_S)
        finally:
            await end([answered])
            self._share = None
        # Each process has sent its share, which the bucket knows nothing of: it starts from empty.
        self._link.slow_down(Slowdown())
        log.warning("limiter with the fleet again model=%s", self._model)

    def cool(self, seconds: float) -> None:
        """The endpoint has refused a request: give nothing for so long."""
        if self._share is not None:
            self._share.cool(seconds)

    def _grant(self) -> None:
        if self._share is None:
            return
        for name in self._waiting.priorities():
            for turn in self._waiting.turns(name, AT_MOST):
                taken = list(takewhile(self._share.take, turn.ask.tokens))
                for waiter in self._waiting.served(name, turn, len(taken)):
                    waiter.future.set_result(Grant(waiter.tokens, alone=True))
                if len(taken) < len(turn.waiters):
                    return

    async def _until_redis_answers(self) -> None:
        while True:
            try:
                return await self._link.configure()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_S)
