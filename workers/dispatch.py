"""What every request of this process passes: the window, the journal and the writer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from corpusmill.ledger.records import Batch, ItemResult, ShardRef, Usage
from corpusmill.llm.errors import CallError
from corpusmill.settings import Retry
from workers.aside import Aside, Room
from workers.held import HeldShard, NotNow, Unit
from workers.journal import Journal, Reply, Sent
from workers.metrics import Metrics
from workers.slices import Slices
from workers.turn import Turn, keep
from workers.writer import Writer

if TYPE_CHECKING:
    from workers.breaker import Breaker
    from workers.stream import Stream

log = logging.getLogger(__name__)

CLEAR_POLL_S = 0.05
# Room for large replies: one that is dealt with and one that is read meanwhile, of the largest that there are.
REPLY_BYTES = 32 << 20


class Dispatch:
    """Shared by all deliveries. Used on the loop only."""

    def __init__(self, *, window: int, retry: Retry, journal: Journal, writer: Writer, metrics: Metrics) -> None:
        self.window = asyncio.Semaphore(window)
        self.retry, self.metrics = retry, metrics
        self.claiming = 0  # shards whose items may be here in a moment
        self.breaker: Breaker
        self.aside, self.room, self.slices = Aside(), Room(REPLY_BYTES), Slices()
        self._journal, self._writer = journal, writer
        self._turn = Turn(journal, writer)
        self._one_trial = asyncio.Lock()
        self._only: Stream | None = None

    def turn_journal_over(self) -> None:
        """Let what SQL has leave the journal's disk."""
        self._journal.turn_over()

    def close(self, timeout_s: float) -> None:
        """Write what there is, and let go of the journal; what could not be written is adopted from it. Blocks."""
        self.aside.close()
        if not self._writer.close(timeout_s):
            log.warning("not everything is written; the journal keeps it")
        self._journal.close()

    @property
    def is_clear(self) -> bool:
        """Whether what comes back could be written: the ledger keeps up, and our leases are fresh."""
        return not (self._writer.full or self._writer.stale)

    async def clear(self) -> None:
        """Wait until it is."""
        while not self.is_clear:  # noqa: ASYNC110  # told by another thread
            await asyncio.sleep(CLEAR_POLL_S)

    def flush(self) -> None:
        """Hand over what this turn of the loop has gathered: what is submitted to the writer next comes after it."""
        self._turn.flush()

    @asynccontextmanager
    async def alone(self, stream: Stream) -> AsyncIterator[None]:
        """Let this stream alone send, once all that is under way has landed: if we die now, it is to blame."""
        async with self._one_trial:
            self._only = stream
            try:
                # Once in any case: who was let before may be about to be counted.
                await asyncio.sleep(CLEAR_POLL_S)
                while self.metrics.in_flight:  # noqa: ASYNC110  # as many things end calls as begin them
                    await asyncio.sleep(CLEAR_POLL_S)
                yield
            finally:
                self._only = None

    def lets(self, stream: Stream) -> bool:
        """Whether this stream may send: no other is alone."""
        return self._only is None or self._only is stream

    async def let(self, stream: Stream) -> None:
        """Wait until it may."""
        while not self.lets(stream):  # noqa: ASYNC110  # trials are rare
            await asyncio.sleep(CLEAR_POLL_S)

    async def departs(self, attempt_id: bytes, estimates: Sequence[Usage], units: Sequence[Unit]) -> None:
        """Note in the journal that a call for these units begins. It has to be sent at once.

        Raises:
            DiskFull: it cannot be noted, so the call must not be made.
            NotNow: meanwhile their shards were halted, or may have become somebody else's.
        """
        await self._turn.departs(Sent(attempt_id, estimates))
        if not self._still_ours({shard for shard, _ in units}):
            self._journal.void(attempt_id)
            raise NotNow
        self.metrics.departed()

    def _still_ours(self, shards: Collection[HeldShard]) -> bool:
        """Whether no other worker can have taken any of these: the process may have slept since the call was admitted.

        The writer is asked, which may know of a loss before the loop has been told.
        """
        if self._writer.stale:
            return False
        for shard in shards:
            if not self._writer.holds(shard.ref, shard.fence):
                shard.halt("lost")
        return not any(shard.halted for shard in shards)

    def unpaid(self, attempt_id: bytes, ref: ShardRef) -> None:
        """The call cost nothing."""
        self._journal.void(attempt_id)
        self._writer.submit(Batch(unpaid={ref: 1}), attempts=(attempt_id,))

    def unknown(self, attempt_id: bytes, estimates: Sequence[Usage]) -> None:
        """Nobody knows whether the call is billed: its estimates stand."""
        self._writer.submit(Batch(usage=estimates), attempts=(attempt_id,))

    def paid(self, reply: Reply) -> None:
        """A reply that is billed: into the journal and on its way to the ledger before the turn ends."""
        self._turn.paid(reply)

    def paid_aside(self, reply: Reply) -> None:
        """The same at once, from any thread: a large reply would hold the turn up."""
        keep(self._journal, self._writer, [reply])

    def fail(self, units: Iterable[Unit], error: CallError) -> None:
        """Write that these items failed, and why: the class and a redacted line."""
        results = [
            ItemResult(
                ref=shard.ref,
                item_no=item.item_no,
                key=None,
                error_class=error.failure_class,
                error=error.message,
                attempts=error.attempts,
                request_id=error.request_id,
            )
            for shard, item in units
        ]
        self._writer.submit(Batch(results=results))
        self.metrics.failed[error.failure_class] += len(results)
        for shard, item in units:
            log.info(
                "item failed job=%s shard=%d item=%d class=%s attempts=%d request_id=%s",
                shard.job.run.public_id, shard.ref.shard_no, item.item_no,
                error.failure_class, error.attempts, error.request_id,
            )  # fmt: skip
            shard.counts["failed"] += 1
            shard.land(item, settled=True)
