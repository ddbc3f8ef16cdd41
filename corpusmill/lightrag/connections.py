"""One pool of connections an event loop, behind every call: what a caller names decides which client it gets.

What is plain (an address, a key, headers, Azure's deployment) goes over the pool of `corpusmill.llm`. What only the
SDK can honour (a transport of the caller's own, its retries, headers for one call) goes over an SDK client that is
kept as long. Either closes when the loop ends, and neither is ever handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Self

from corpusmill.lightrag.per_loop import PerLoop
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.wires import PooledWire, SdkWire, Wire
from corpusmill.llm.pool import ClientPool


class Connections:
    """The wires of one event loop."""

    def __init__(self) -> None:
        self._pool = ClientPool()
        self._wires: dict[Hashable, Wire] = {}

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for wire in self._wires.values():
            await wire.close()
        await self._pool.__aexit__(kind, error, trace)

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


_of_loop = PerLoop(Connections)


async def connections() -> Connections:
    """Those of the running event loop."""
    return await _of_loop.get()
