"""A shard that is ours: which of its items are on their way, and whether any more may be sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from corpusmill.ledger.records import ClaimedShard, ShardRef, WorkItem
from workers.jobs import RunningJob
from workers.purse import Purse

HaltReason = Literal[
    "paused", "cancelled", "stopped", "finished", "lost", "drain", "lane", "parked", "budget", "disk", "crashed"
]


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing more of a shard is sent, and the seconds until anybody should try it again."""

    reason: HaltReason
    retry_in_s: float = 0.0


class GivenUp(Exception):
    """Nobody wants a request any more: its shards were halted."""


class NotNow(GivenUp):
    """It has to wait for something else first."""


class Unit(NamedTuple):
    """One item of one shard: what requests are made of."""

    shard: HeldShard
    item: WorkItem


class HeldShard:
    """The items of a claimed shard between the claim and its end. Used on the loop only.

    An item is *left* until it has a result or is given up, and *flying* while a call for it is under way. Halting
    gives up what is not flying; what flies lands, since it is paid for.
    """

    def __init__(self, claimed: ClaimedShard, job: RunningJob, purse: Purse | None) -> None:
        self.ref: ShardRef = claimed.ref
        self.fence = claimed.fence
        self.job, self.purse = job, purse
        self.halted: Halt | None = None
        self.counts: Counter[str] = Counter()
        self.on_halt: Callable[[], None] = lambda: None
        self.on_all_sent: Callable[[], None] = lambda: None
        self._left: set[int] = set()
        self._flying: set[int] = set()
        self._idle, self._stop = asyncio.Event(), asyncio.Event()
        self._idle.set()

    @property
    def lane(self) -> tuple[str, str]:
        """The endpoint and key fingerprint under which it was claimed."""
        return self.job.run.spec.endpoint, self.job.run.key_fingerprint

    def admit(self, items: Sequence[WorkItem]) -> list[Unit]:
        """Take items in to be sent; none when the shard is halted already."""
        if self.halted:
            return []
        self._left.update(item.item_no for item in items)
        self._note_idle()
        return [Unit(self, item) for item in items]

    def wants(self, item: WorkItem) -> bool:
        """Whether the item still needs a call, and may have one."""
        return item.item_no in self._left and self.halted is None

    def take_off(self, item: WorkItem) -> None:
        """A call for the item begins."""
        self._flying.add(item.item_no)
        if len(self._flying) == len(self._left):
            self.on_all_sent()

    def land(self, item: WorkItem, *, settled: bool) -> None:
        """The call is over; `settled`: the item has its result, else it needs another call (or is given up)."""
        self._flying.discard(item.item_no)
        if settled or self.halted:
            self._left.discard(item.item_no)
            self._note_idle()

    def halt(self, reason: HaltReason, *, retry_in_s: float = 0.0) -> None:
        """Send nothing more. The first reason stays, but a lost lease outdoes every other."""
        if self.halted is None or reason == "lost":
            self.halted = Halt(reason, retry_in_s)
        self._left &= self._flying
        self._note_idle()
        self._stop.set()
        self.on_halt()

    async def idle(self) -> None:
        """Wait until every item has its result or is given up."""
        await self._idle.wait()

    async def rest(self, seconds: float) -> None:
        """Wait, but no longer than until it is halted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _note_idle(self) -> None:
        if self._left:
            self._idle.clear()
        else:
            self._idle.set()
