"""The supervisor's own look into the ledger, on one thread, so that a slow disk does not stop the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView

T = TypeVar("T")


class LedgerWatch:
    """Sees active jobs and pauses them; opened once, all calls on one thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None

    async def open(self, url: str) -> None:
        """Open the ledger, made or migrated first when it is new or behind."""
        self._ledger = await self._call(lambda: Ledger.open(url, create=True))

    async def active(self) -> list[JobView]:
        """The jobs that are sent or could be; none while the ledger is not open."""
        return await self._call(self._ledger.unfinished) if self._ledger else []

    async def pause(self, job: JobView, note: str) -> None:
        """Stop a job from sending; what is in flight is saved."""
        if ledger := self._ledger:
            await self._call(lambda: ledger.pause(job.id, "user", note=note))

    async def close(self) -> None:
        """Close what is open."""
        if self._ledger is not None:
            await self._call(self._ledger.close)
        self._thread.shutdown()

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
