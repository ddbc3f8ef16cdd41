"""One pool of connections an event loop, behind every call: what a caller names decides which client it gets.

What is plain (an address, a key, headers, Azure's deployment) goes over the pool of `corpusmill.llm`. What only the
SDK can honour (a transport of the caller's own, its retries, headers for one call) goes over an SDK client that is
kept as long. Either closes when the loop ends, and neither is ever handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from weakref import WeakKeyDictionary

from corpusmill.lightrag.places import Where
from corpusmill.lightrag.wires import PooledWire, SdkWire, Wire
from corpusmill.llm.pool import ClientPool


class Connections:
    """The wires of one event loop."""

    def __init__(self) -> None:
        self._pool = ClientPool()
        self._wires: dict[Hashable, Wire] = {}
        self._ending: AsyncGenerator[None, None] | None = None
        self.closed = False

    async def open(self) -> None:
        """Open the pool until the event loop shuts its generators down, as `asyncio.run` does at its end."""
        self._ending = self._until_the_loop_ends()
        await anext(self._ending)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        async with self._pool:
            try:
                yield
            finally:
                self.closed = True
                for wire in self._wires.values():
                    await wire.close()

    def wire(self, where: Where, *, unusual: bool = False) -> Wire:
        """The wire to an endpoint; `unusual`: the call says something that only the SDK can send."""
        if where.plain and not unusual:
            endpoint = where.endpoint()
            return self._kept(endpoint, lambda: PooledWire(self._pool.client(endpoint)))
        return self._kept(where.known_by(), lambda: SdkWire(where))

    def _kept(self, key: Hashable, make: Callable[[], Wire]) -> Wire:
        wire = self._wires.get(key)
        if wire is None:
            wire = self._wires[key] = make()
        return wire


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Connections] = WeakKeyDictionary()


async def connections() -> Connections:
    """Those of the running event loop, opened at their first use."""
    loop = asyncio.get_running_loop()
    found = _of_loop.get(loop)
    if found is None or found.closed:
        found = _of_loop[loop] = Connections()
        await found.open()
    return found
