"""Things that belong to an event loop: opened at their first use in it, closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One opened thing for each event loop.

    A loop that ends in order shuts its async generators down (`asyncio.run` sees to that), so a generator that waits
    inside the context closes it then.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[T, None]] = WeakKeyDictionary()
        self._things: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    async def get(self) -> T:
        """The running loop's own."""
        loop = asyncio.get_running_loop()
        if loop not in self._things:
            holder = self._held()
            self._open[loop], self._things[loop] = holder, await anext(holder)
        return self._things[loop]

    async def _held(self) -> AsyncGenerator[T, None]:
        async with self._make() as thing:
            try:
                yield thing
            finally:
                self._things.pop(asyncio.get_running_loop(), None)
