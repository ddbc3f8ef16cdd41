"""All gates of one process, over one connection pool to Redis."""

from __future__ import annotations

import asyncio
import secrets
from types import TracebackType
from typing import Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from corpusmill.limits.bucket import Bucket
from corpusmill.limits.ending import end
from corpusmill.limits.gate import Gate
from corpusmill.limits.link import FirstUse, Link, not_known_to_be_new
from corpusmill.limits.scope import Limits, Scope, Settle

TIMEOUT_S = 1.0


class Limiter:
    """Opens gates and keeps them served until it is closed. Belongs to the event loop it is entered in.

    Entering connects to nothing: while Redis is away, a gate that has never seen it grants nothing. `first_use` says
    once, of all the processes there ever are, that a scope was never drawn from: then its bucket starts full.
    """

    def __init__(self, redis_url: str, first_use: FirstUse = not_known_to_be_new) -> None:
        self._url, self._first_use = _for_redis_py(redis_url), first_use
        self._process = secrets.token_hex(8)
        self._gates: dict[Scope, tuple[Gate, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        # No retries of the client's own: by default redis-py sends a script again after a time-out, up to ten times.
        self._redis = Redis.from_url(
            self._url, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end([task for _, task in self._gates.values()])
        for gate, _ in self._gates.values():
            gate.close()
        await self._redis.aclose()

    def gates(self) -> list[tuple[Scope, Gate]]:
        """Those that are open; may be asked from any thread."""
        return [(scope, gate) for scope, (gate, _) in list(self._gates.items())]

    def gate(self, scope: Scope, limits: Limits, *, settle: Settle = "estimate") -> Gate:
        """The gate of a scope; the first call opens it, and its `settle` holds. The `limits` last given hold."""
        if scope in self._gates:
            gate, _ = self._gates[scope]
            gate.heed(limits)
            return gate
        link = Link(Bucket(self._redis, scope, process=self._process), limits, self._first_use)
        gate = Gate(link, limits, model=scope.model, settle=settle)
        self._gates[scope] = gate, asyncio.create_task(gate.run(), name=f"limiter:{scope.model}")
        return gate


def _for_redis_py(url: str) -> str:
    """Celery spells a Unix socket `redis+socket://`, redis-py `unix://`."""
    return url.replace("redis+socket://", "unix://", 1)
