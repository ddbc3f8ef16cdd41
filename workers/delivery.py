"""One request on its way to its end: admitted, called; made again, taken apart, failed or given up.

1. It waits for its turn, a place in the window, its part of the budget where there is one, and the limiter's leave.
2. It is called; what that cost and brought is booked.
3. A failure is made again as the policy says; a pack with a bad text is taken apart; what concerns the key, the
   account or every item alike goes to the breaker; what is left is the item's own failure and is written.
While it waits it can be called off at any moment; while it is called it is left alone, since it is paid for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from corpusmill.errors import DiskFull
from corpusmill.limits import LimiterParked, RequestTooLarge
from corpusmill.llm import packs
from corpusmill.llm.errors import CallError
from corpusmill.llm.retry import LONGEST_WAIT_S, RetryLater, with_retries
from workers.admission import Ticket, admit
from workers.call import Call
from workers.dispatch import Dispatch
from workers.held import GivenUp, NotNow, Unit
from workers.lane import Member
from workers.logs import crash
from workers.purse import OverBudget, ShardLost
from workers.stream import HANDFUL, Stream
from workers.work import Work

log = logging.getLogger(__name__)

# A dead endpoint is found out by ten failed connections: with one item they should not take minutes.
LONGEST_RECONNECT_S = 2.0
UNREACHABLE_S = 5.0


class Delivery:
    """One request, from the first wait to the last result. Used on the loop only."""

    def __init__(self, dispatch: Dispatch, stream: Stream, work: Work, units: Sequence[Unit]) -> None:
        self._dispatch, self._stream, self._work = dispatch, stream, work
        self._units = tuple(units)
        self._called: Member | None = None
        self._waiting = True
        self._calls = 0
        self._last_error: CallError | None = None
        self._spilled = False
        stream.deliveries.add(self)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def reconsider(self) -> None:
        """Stop waiting if nobody wants the request any more; a call under way is left to end."""
        if self._waiting and not any(unit.shard.wants(unit.item) for unit in self._units):
            self.task.cancel()

    def abandon(self) -> None:
        """End even a call under way: its outcome stays unknown."""
        self.task.cancel()

    async def _run(self) -> None:
        try:
            await self._deliver(self._units)
        except asyncio.CancelledError:
            log.debug("request called off units=%d", len(self._units))
        except Exception as error:  # a mistake of ours must not leave a shard waiting for ever
            self._crashed(error)
        finally:
            self._stream.deliveries.discard(self)
        if self._stream.quiet:
            await self._dispatch.breaker.decide(self._stream)

    def _crashed(self, error: Exception) -> None:
        crash(log, "request crashed", error)
        for unit in self._units:
            unit.shard.halt("crashed")

    async def _deliver(self, units: Sequence[Unit]) -> None:
        """Bring these units to their end."""
        self._units, self._calls = tuple(units), 0
        try:
            await self._retried()
        except CallError as error:
            await self._failed(error)
        except RequestTooLarge:
            await self._failed(CallError("too_large", detail="more tokens than the limit grants in a minute"))
        except GivenUp:
            # Nobody at the other end may be called, and yet somebody waits for it.
            for shard, item in self._units:
                if shard.wants(item):
                    shard.halt("lane", retry_in_s=UNREACHABLE_S)
        except OverBudget as error:
            await self._over_budget(error)
        except (LimiterParked, RetryLater, ShardLost, DiskFull) as error:
            await self._held_up(error)

    async def _retried(self) -> None:
        try:
            await with_retries(self._try, self._dispatch.retry, sleep=self._rest)
        finally:
            # What follows halts shards, and must not be called off by that itself.
            self._waiting = False

    async def _held_up(self, error: Exception) -> None:
        """It is nobody's failure, but no call may be made: its shards go back, or its jobs pause."""
        match error:
            case LimiterParked() | RetryLater():
                for unit in self._units:
                    unit.shard.halt("parked", retry_in_s=error.wait_s)
            case ShardLost():
                self._units[0].shard.halt("lost")
            case DiskFull():
                await self._dispatch.breaker.disk_full(error.what)

    async def _over_budget(self, error: OverBudget) -> None:
        """What is left of the budget may do for a part of a pack; when not for one text, it is used up."""
        units = self._units
        if len(units) == 1:
            await self._dispatch.breaker.over_budget(units[0].shard.job.run, error.amount)
            return
        for part in packs.halves(units):
            wanted = [unit for unit in part if unit.shard.wants(unit.item)]
            if wanted:
                await self._deliver(wanted)

    # --- one try ------------------------------------------------------------------------------------------------

    async def _try(self) -> None:
        while not await self._tried():
            pass
        if not self._spilled:
            self._stream.patience.served()
        if not self._stream.proved:
            for each in self._stream.prove():
                self._dispatch.fail(each.units, each.error)

    async def _tried(self) -> bool:
        """Call once all is there that it needs; False: while we waited, flex turned out to have no capacity."""
        self._waiting = True
        await self._flex_capacity()
        await self._stream.probation.enter()
        try:
            ticket = await admit(self._dispatch, self._stream, self._work, self._wanted_now)
            self._waiting = False
            await self._make(ticket)
        except NotNow:
            return False
        except CallError as error:
            self._last_error = error
            self._stream.probation.failed()
            raise
        finally:
            self._stream.probation.leave()
        return True

    async def _make(self, ticket: Ticket) -> None:
        self._units = ticket.units
        self._calls += 1
        pool = len(self._stream.lane.members) > 1
        provider = ticket.member.endpoint.name if pool else ticket.units[0].shard.job.run.provider
        self._called = ticket.member
        try:
            call = Call(
                self._dispatch, self._work, ticket, provider=provider, number=self._calls, spilled=self._spilled
            )
            await call.make()
        except CallError as error:
            await self._note_reached(ticket.member, error)
            self._look_elsewhere(ticket, error)
            if error.failure_class == "flex_unavailable":
                self._without_flex(error)
            raise
        except NotNow:
            self._calls -= 1
            raise
        finally:
            self._dispatch.window.release()

    async def _note_reached(self, member: Member, error: CallError) -> None:
        if error.failure_class != "connection":
            member.reached()
        elif member.missed():
            await self._dispatch.breaker.shut(self._stream.lane, member, "endpoint", error)

    def _look_elsewhere(self, ticket: Ticket, error: CallError) -> None:
        """What one member of a pool asks us to wait holds for that member alone."""
        asked, lane = error.retry_after_s, self._stream.lane
        if asked and len(lane.members) > 1 and lane.shortest_wait_s(self._stream.model, ticket.facts) < asked:
            error.retry_after_s = None

    def _without_flex(self, error: CallError) -> None:
        """Go on at the usual tier, or have the whole stream wait: as the job says."""
        if self._units[0].shard.job.run.flex == "spill":
            self._spilled = True
        else:
            self._stream.patience.refused(error, self._dispatch.retry.min_s)

    async def _flex_capacity(self) -> None:
        """Wait while flex has none.

        Raises:
            RetryLater: that may take long, so the work is better given back.
        """
        patience = self._stream.patience
        while not self._spilled and patience.error is not None and (wait_s := patience.wait_s):
            if wait_s > LONGEST_WAIT_S:
                raise RetryLater(wait_s, patience.error)
            await asyncio.sleep(wait_s)
            self._wanted()

    def _wanted_now(self) -> tuple[Unit, ...]:
        """As `_wanted`; and that flex may have capacity, as far as the stream knows by now."""
        if not self._spilled and self._stream.patience.wait_s:
            raise NotNow
        return self._wanted()

    async def _rest(self, seconds: float) -> None:
        """Wait between two tries, unless nobody wants another."""
        self._wanted()
        if self._last_error is not None and self._last_error.failure_class == "connection":
            seconds = min(seconds, LONGEST_RECONNECT_S)
        self._waiting = True
        await asyncio.sleep(seconds)

    def _wanted(self) -> tuple[Unit, ...]:
        """The units that may still be sent.

        Raises:
            GivenUp: there is none.
        """
        wanted = tuple(unit for unit in self._units if unit.shard.wants(unit.item))
        if not wanted:
            raise GivenUp
        return wanted

    # --- the end ------------------------------------------------------------------------------------------------

    async def _failed(self, error: CallError) -> None:
        """No further try: take the pack apart, tell the breaker, or write the failure."""
        units = self._units
        if error.action == "pause":
            await self._refused_outright(error)
            return
        smaller = packs.parts(error, units)
        if smaller:
            for part in smaller:
                await self._deliver(part)
        elif error.action == "stop" and not self._stream.proved:
            self._stream.withhold(units, error)
            if self._stream.withheld_items >= HANDFUL:
                await self._dispatch.breaker.decide(self._stream)
        else:
            self._dispatch.fail(units, error)

    async def _refused_outright(self, error: CallError) -> None:
        """The key, the account or the way there is of no use: nothing is tried again, but at another member."""
        lane, member = self._stream.lane, self._called
        if error.failure.pauses is not None and member is not None:
            await self._dispatch.breaker.shut(lane, member, error.failure.pauses, error)
        if lane.has_open:
            await self._deliver(self._units)
