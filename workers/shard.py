"""The path of a shard: claim, send, await what others pay for, close or give back.

A wake-up for a shard that is not ours to have ends here at once: SQL decides, not the message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from corpusmill.errors import CorpusmillError, DiskFull
from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.records import Batch, ClaimedShard, CommitReport, JobRun, Reservation, ShardRef, WorkItem
from corpusmill.spells import Spell
from workers.dispatch import Dispatch
from workers.held import HeldShard
from workers.jobs import RunningJob
from workers.keyring import Keyring
from workers.ledger_thread import LedgerThread
from workers.logs import crash
from workers.purse import Purse
from workers.routes import Route, Routes
from workers.spare import Spare
from workers.writer import Writer, awake_s

log = logging.getLogger(__name__)
claims_put_off = Spell(log, "shards are put off")

# How often to look whether another shard has paid for what this one waits for.
AWAIT_S = 0.5
AFTER_AN_OUTAGE_S = 1.0
# Reasons after which a job may come back changed: what was learnt of it is forgotten.
FORGETFUL = frozenset({"paused", "cancelled", "stopped", "lane", "budget", "disk"})
HALTING = frozenset({"paused", "cancelled", "stopped", "finished"})


@dataclass(frozen=True, slots=True)
class ShardReport:
    """How a shard ended here, and item counts.

    `outcome`: `done`, `dropped` (not ours to have), `put_off` (the ledger is away), or why it was given back.
    """

    ref: ShardRef
    outcome: str
    counts: dict[str, int] = field(default_factory=dict)

    def as_counts(self) -> dict[str, int | str]:
        """For the monitor: ids and numbers, never texts."""
        return {
            "job_id": self.ref.job_id,
            "shard_no": self.ref.shard_no,
            "outcome": self.outcome,
            **self.counts,
        }


class ShardRunner:
    """Runs shards on the loop; `held` are those that are ours right now."""

    def __init__(
        self,
        ledger: Ledger,
        thread: LedgerThread,
        *,
        worker_id: str,
        lease_s: float,
        keyring: Keyring,
        dispatch: Dispatch,
        writer: Writer,
        spare: Spare,
    ) -> None:
        self._ledger, self._ask = ledger, thread.ask
        self._worker_id, self._lease_s = worker_id, lease_s
        self._keyring, self._dispatch, self._writer = keyring, dispatch, writer
        self.spare = spare
        self._lending: set[ShardRef] = set()
        self.routes: Routes
        self.held: dict[ShardRef, HeldShard] = {}
        self.draining = False

    async def run(self, ref: ShardRef) -> ShardReport:
        """Claim a shard and bring it as far as it goes. Raises nothing: monitors would show what an error says."""
        try:
            return await self._claim_and_run(ref)
        except CorpusmillError as error:
            # The ledger cannot be asked. The wake-up is spent, and sent again by the reconciler.
            claims_put_off.trouble("shards", error.what)
            if isinstance(error, DiskFull):
                self._writer.found_full()
            log.debug("shard put off job=%d shard=%d", ref.job_id, ref.shard_no)
            return ShardReport(ref, "put_off")
        except Exception as error:
            crash(log, "shard crashed", error)
            return ShardReport(ref, "crashed")

    async def _claim_and_run(self, ref: ShardRef) -> ShardReport:
        await self._dispatch.clear()
        if self.draining or ref in self.held:
            return ShardReport(ref, "dropped")
        asked_at_s = awake_s()
        claimed = await self._claimed(ref)
        claims_put_off.over("shards")
        if claimed is None:
            return ShardReport(ref, "dropped")
        self._dispatch.metrics.shards += 1
        if not claimed.items and not claimed.awaited:
            return ShardReport(ref, "done")
        return await self._run_claimed(claimed, asked_at_s)

    async def _claimed(self, ref: ShardRef) -> ClaimedShard | None:
        self._dispatch.claiming += 1
        try:
            return await self._ask(
                self._ledger.claim, ref, worker_id=self._worker_id, lease_s=self._lease_s, holds=self._keyring.holds()
            )
        finally:
            self._dispatch.claiming -= 1

    def drain(self) -> None:
        """Claim nothing more and send nothing more; what is under way lands."""
        self.draining = True
        for shard in list(self.held.values()):
            shard.halt("drain")

    def heard(self, report: CommitReport) -> None:
        """A commit has told which shards are lost and how our jobs stand."""
        for ref in report.lost:
            if ref in self.held:
                self.held[ref].halt("lost")
        for shard in list(self.held.values()):
            state = report.job_states.get(shard.ref.job_id)
            if state in HALTING and shard.halted is None:
                shard.halt(state)  # type: ignore[arg-type]  # the states that halt are reasons too

    async def _run_claimed(self, claimed: ClaimedShard, asked_at_s: float) -> ShardReport:
        shard = self._taken(claimed, asked_at_s)
        try:
            await self._work(shard, claimed)
            outcome = await self._finish(shard)
        except CorpusmillError:
            # The ledger was away while it was asked; this is written when it is back.
            self._writer.submit(Batch(fences={shard.ref: shard.fence}, releasing={shard.ref: AFTER_AN_OUTAGE_S}))
            raise
        finally:
            # After a crash nobody renews it from here on; the next one who claims it may fare better.
            self._writer.let_go(shard.ref)
            del self.held[shard.ref]
            if shard.ref in self._lending:
                self._lending.remove(shard.ref)
                self.spare.take_back()
        log.info(
            "shard ended job=%s shard=%d outcome=%s succeeded=%d failed=%d",
            claimed.job.public_id, shard.ref.shard_no, outcome, shard.counts["succeeded"], shard.counts["failed"],
        )  # fmt: skip
        return ShardReport(shard.ref, outcome, dict(shard.counts))

    def _taken(self, claimed: ClaimedShard, asked_at_s: float) -> HeldShard:
        """The shard as ours: its lease is renewed from now on."""
        ref, fence = claimed.ref, claimed.fence
        reserve, give_back = partial(self._reserve, ref, fence), partial(self._give_back, ref, fence)
        purse = Purse(reserve, give_back) if claimed.job.budget else None
        shard = self.held[ref] = HeldShard(claimed, self._job(claimed.job), purse)
        self._writer.hold(ref, fence, since_s=asked_at_s)
        # A trial is alone; and packs are large: sixteen shards of them have as much under way as there is memory for.
        if not claimed.trial and claimed.job.spec.kind != "embedding":
            shard.on_all_sent = partial(self._lend, ref)
        return shard

    def _lend(self, ref: ShardRef) -> None:
        """All that is left of a shard is on its way: its slot may be another's until it ends."""
        if ref not in self._lending and self.spare.lend():
            self._lending.add(ref)

    def _job(self, run: JobRun) -> RunningJob:
        """The job, with what other shards of it have learnt here."""
        known = (shard.job for shard in self.held.values() if shard.job.run == run)
        return next(known, None) or RunningJob.of(run)

    async def _reserve(self, ref: ShardRef, fence: int, amount: Amount) -> Reservation:
        return await self._ask(self._ledger.reserve, ref, fence, amount)

    async def _give_back(self, ref: ShardRef, fence: int) -> None:
        await self._committed(Batch(fences={ref: fence}, reserved={ref: NOTHING}))

    async def _work(self, shard: HeldShard, claimed: ClaimedShard) -> None:
        lane = self.routes.lane(claimed.job, self._keyring.endpoints(shard.lane))
        route = self.routes.route(claimed.job, lane, trial=claimed.ref if claimed.trial else None)
        if self.draining or lane.pausing or not lane.members:
            shard.halt("drain" if self.draining else "lane")
        if shard.purse is not None:
            largest = await self._ask(self._ledger.max_output_tokens, shard.ref.job_id)
            shard.job.saw_output(largest or 0)
        shard.on_halt = route.stream.reconsider
        route.stream.shards.add(shard)
        try:
            await self._send_all(shard, route, claimed)
        finally:
            self._leave(shard, route, forget=claimed.trial)

    async def _send_all(self, shard: HeldShard, route: Route, claimed: ClaimedShard) -> None:
        """Have every item sent, and those sent that turn out to be ours to pay for; returns when nothing is left."""
        await self._bring(shard, route, claimed.items, alone=claimed.trial)
        waiting = claimed.awaited
        while waiting and shard.halted is None:
            self._dispatch.flush()
            await asyncio.wrap_future(self._writer.flush())
            report = await self._ask(self._ledger.awaited, shard.ref, shard.fence)
            shard.counts["cached"] += report.settled
            waiting = report.waiting
            await self._bring(shard, route, report.items, alone=claimed.trial)
            if waiting and not report.settled and not report.items:
                await shard.rest(AWAIT_S)

    async def _bring(self, shard: HeldShard, route: Route, items: Sequence[WorkItem], *, alone: bool) -> None:
        """Have these items sent, and wait for their end."""
        # Alone only while it sends: what it waits for afterwards may have to be sent by another shard of ours.
        async with self._dispatch.alone(route.stream) if alone and items else nullcontext():
            route.outlet.send(shard.admit(items))
            await shard.idle()

    async def _finish(self, shard: HeldShard) -> str:
        """Close the shard, or give it back unfinished; returns how it ended."""
        fences = {shard.ref: shard.fence}
        halted = shard.halted
        if halted is None:
            report = await self._committed(Batch(fences=fences, closing=[shard.ref]))
            return "done" if shard.ref in report.closed else "given_back"
        # A crash counts as a death: left to lapse, it is tried again apart from others and, should it go on, is failed.
        if halted.reason not in ("lost", "crashed"):
            await self._committed(Batch(fences=fences, releasing={shard.ref: halted.retry_in_s}))
        return halted.reason

    async def _committed(self, batch: Batch) -> CommitReport:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[CommitReport] = loop.create_future()
        self._dispatch.flush()
        self._writer.submit(batch, then=lambda report: _tell(loop, told, report))
        return await told

    def _leave(self, shard: HeldShard, route: Route, *, forget: bool) -> None:
        route.stream.shards.discard(shard)
        if forget or (not route.stream.shards and shard.halted is not None and shard.halted.reason in FORGETFUL):
            self.routes.drop(route.stream)


def _tell(loop: asyncio.AbstractEventLoop, told: asyncio.Future[CommitReport], report: CommitReport) -> None:
    """Hand a report from the writer's thread to who waits for it on the loop, if somebody still does."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if told.done() else told.set_result(report))
