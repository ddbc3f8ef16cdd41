"""What follows when calls fail for a reason that is not the item's own: a lane or a job pauses, or a job stops.

In this process first, so that no further call is made here; then in the ledger, so that no other worker makes one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import Amount, Budget, plain
from corpusmill.ledger.records import Counts, JobRun, JobView, PauseReason, ShardRef
from corpusmill.llm.errors import CallError
from workers.dispatch import Dispatch
from workers.held import HaltReason, HeldShard
from workers.lane import Lane, Member
from workers.stream import HANDFUL, Stream, Withheld

log = logging.getLogger(__name__)

Ask = Callable[..., Awaitable[Any]]


class Breaker:
    """Decides for all deliveries of this process. `ask` calls the ledger off the loop; `held` are our shards."""

    def __init__(self, ledger: Ledger, ask: Ask, held: Mapping[ShardRef, HeldShard], dispatch: Dispatch) -> None:
        self._ledger, self._ask, self._held, self._dispatch = ledger, ask, held, dispatch

    async def shut(self, lane: Lane, member: Member, reason: PauseReason, error: CallError) -> None:
        """A member of a lane is of no use; the lane's jobs pause when it was the last."""
        if not lane.shut(member, reason):
            log.warning("left out of its pool provider=%s reason=%s", member.endpoint.name, reason)
            return
        endpoint, fingerprint = lane.key
        self._halt("lane", (shard for shard in self._held.values() if shard.lane == lane.key))
        if lane.pausing:
            return
        lane.pausing = True
        log.error("lane paused endpoint=%s reason=%s because=%s", endpoint, reason, error.message)
        try:
            await self._tell(self._ledger.pause_lane, endpoint, fingerprint, reason, error.message)
        finally:
            lane.pausing = False

    async def over_budget(self, run: JobRun, call: Amount) -> None:
        """The next call, of one item, would exceed the job's budget."""
        if self._halt("budget", self._of_job(run.id)):
            log.warning("job paused job=%s reason=budget", run.public_id)
            await self._tell(self._ledger.pause, run.id, "budget", _over(run.budget, call))

    async def disk_full(self, why: str) -> None:
        """What comes back might not be saved: nothing is sent for any job until somebody resumes it."""
        jobs = {shard.job.run.id for shard in self._held.values()}
        if self._halt("disk", self._held.values()):
            log.error("jobs paused jobs=%d reason=disk because=%s", len(jobs), why)
            for job_id in jobs:
                await self._tell(self._ledger.pause, job_id, "disk", why)

    async def decide(self, stream: Stream) -> None:
        """Items have failed in a way that may be everybody's: it is theirs if anything succeeds, else the jobs stop."""
        # Items of halted shards stay open: whoever lets their job go on has them tried again.
        withheld = [each for each in stream.take_withheld() if all(unit.shard.halted is None for unit in each.units)]
        if not withheld:
            return
        jobs = {unit.shard.job.run.id: unit.shard.job.run for each in withheld for unit in each.units}
        if sum(len(each.units) for each in withheld) < HANDFUL and not await self._is_all(withheld, jobs):
            self._write(withheld)
            return
        stream.probation.suspend()
        try:
            await self._judge(stream, withheld, jobs)
        finally:
            stream.probation.go_on()

    async def _is_all(self, withheld: Sequence[Withheld], jobs: Mapping[int, JobRun]) -> bool:
        """Whether nothing else is left to do in these jobs: a small one has no handful. A request speaks for itself."""
        failed = Counter(unit.shard.job.run.id for each in withheld for unit in each.units)
        for job_id, run in jobs.items():
            if run.spec.kind == "request" or failed[job_id] < await self._to_do(job_id):
                return False
        return True

    async def _to_do(self, job_id: int) -> int:
        """How many items of a job have no result yet, of those that it may run now."""
        job: JobView = await self._ask(self._ledger.job, job_id)
        counts: Counts = await self._ask(self._ledger.counts, job_id)
        return min(counts.items, job.first or counts.items) - counts.succeeded - counts.failed

    async def _judge(self, stream: Stream, withheld: Sequence[Withheld], jobs: Mapping[int, JobRun]) -> None:
        """A handful has failed, or all there is, and nothing has succeeded here."""
        if await self._any_success(jobs):
            stream.probation.pass_()
            self._write(withheld)
            return
        note = withheld[0].error.message
        for job_id, run in jobs.items():
            self._halt("stopped", self._of_job(job_id))
            log.error("job stopped job=%s because=%s", run.public_id, note)
            await self._tell(self._ledger.stop, job_id, note)

    async def _any_success(self, jobs: Iterable[int]) -> bool:
        """Whether a call of one of these jobs has ever succeeded, here or elsewhere."""
        for job_id in jobs:
            counts = await self._ask(self._ledger.counts, job_id)
            if counts.succeeded > counts.cached:
                return True
        return False

    def _write(self, withheld: Iterable[Withheld]) -> None:
        for each in withheld:
            self._dispatch.fail(each.units, each.error)

    def _of_job(self, job_id: int) -> list[HeldShard]:
        return [shard for shard in self._held.values() if shard.job.run.id == job_id]

    def _halt(self, reason: HaltReason, shards: Iterable[HeldShard]) -> bool:
        """Halt these shards; True if any of them was still going."""
        going = [shard for shard in shards if shard.halted is None]
        for shard in going:
            shard.halt(reason)
        return bool(going)

    async def _tell(self, change: Callable[..., object], *args: object) -> None:
        try:
            await self._ask(change, *args)
        except CorpusmillError as error:
            # Nothing is sent here all the same; once the shards are claimed again it is found out again.
            log.error("ledger not told what=%s reason=%s", change.__name__, error.what)


def _over(budget: Budget, call: Amount) -> str:
    """What was to be used, and what the call that did not fit might have taken of it."""
    asked = [] if budget.usd is None else [plain(call.usd)]
    asked += [] if budget.tokens is None else [f"{call.tokens:,}"]
    sides = zip(budget.words(), asked, strict=True)
    return ", or ".join(f"{words} has no room for a call of up to {most}" for words, most in sides)
