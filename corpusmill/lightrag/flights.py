"""Identical requests that are under way at the same time: one is sent, all get its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is under way in one event loop, by key."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Future[T]] = {}

    def find(self, key: Hashable) -> asyncio.Future[T] | None:
        """The one under way for a key."""
        return self._tasks.get(key)

    def start(self, keys: Sequence[Hashable], call: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Start one for these keys. It goes on when nobody waits any more: what was sent is paid, so it is kept."""
        task = asyncio.ensure_future(_awaited(call))
        self._tasks.update(dict.fromkeys(keys, task))
        task.add_done_callback(lambda done: self._landed(keys, done))
        return task

    async def share(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What `call` or the one under way gives, and whether it was somebody else's."""
        found = self.find(key)
        return await asyncio.shield(found or self.start((key,), call)), found is not None

    def _landed(self, keys: Sequence[Hashable], task: asyncio.Future[Any]) -> None:
        for key in keys:
            if self._tasks.get(key) is task:
                del self._tasks[key]
        if not task.cancelled():
            task.exception()  # looked at, so that one without a waiter is not logged as lost


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
