"""One call, and what it cost and brought: noted before, booked after, whatever becomes of the job meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from corpusmill.attempt import new_attempt_id
from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.records import ItemResult, Usage
from corpusmill.limits import day_over_s
from corpusmill.llm.client import Reply
from corpusmill.llm.errors import CallError
from corpusmill.llm.usage import Tokens
from workers.accounts import Bill, billed_rows, new_rows, total, wasted_rows
from workers.admission import Ticket
from workers.aside import Seat
from workers.dispatch import Dispatch
from workers.flex import at_usual_tier
from workers.journal import Reply as Paid
from workers.work import Work

# Vectors by the hundred: to decode and keep them takes milliseconds, which the loop has not got.
LARGE_BYTES = 256 << 10
# An endpoint that does not say when its day is over is asked again after so long.
DAY_UNTOLD_S = 3600.0


class Call:
    """One attempt at a request that was admitted. `number` counts the calls for these units from 1.

    `spilled`: flex has no capacity, and the job goes on without it.
    """

    def __init__(
        self, dispatch: Dispatch, work: Work, ticket: Ticket, *, provider: str, number: int, spilled: bool = False
    ) -> None:
        self._dispatch, self._work, self._ticket = dispatch, work, ticket
        self._number, self._spilled = number, spilled
        self._attempt_id = new_attempt_id()
        self._rows: Sequence[Usage] = new_rows(self._attempt_id, ticket.units, ticket.facts, provider)

    async def make(self) -> None:
        """Send it, validate the reply, and book both.

        Raises:
            CallError: it brought no usable answer; booked all the same.
            DiskFull: the journal cannot note it, so it was not sent.
            NotNow: its shards were halted or may be lost, so it was not sent.
        """
        body = self._work.body(self._ticket.units, self._ticket.member.endpoint)
        if self._spilled:
            body = at_usual_tier(body)
        await self._depart()
        seat = self._dispatch.room.seat(self._ticket.facts.reply_bytes)
        try:
            await self._read(await self._reply(body, seat))
        finally:
            seat.leave()

    async def _reply(self, body: bytes, seat: Seat) -> Reply:
        try:
            return await self._ticket.member.client.call(self._work.path, body, before_body=seat.take)
        except CallError as error:
            self._book_failure(error, None)
            raise
        except asyncio.CancelledError:
            # Cut off from this side: the worker has to end now.
            self._ticket.returned("untold")
            self._book_unknown()
            raise
        finally:
            self._ticket.member.under_way -= 1
            self._dispatch.metrics.returned()

    async def _depart(self) -> None:
        self._ticket.member.under_way += 1
        for shard, item in self._ticket.units:
            shard.take_off(item)
        try:
            await self._dispatch.departs(self._attempt_id, self._rows, self._ticket.units)
        except BaseException:  # no room to note it, not ours any more, or cut off: no call is made
            self._ticket.member.under_way -= 1
            self._ticket.unused()
            self._land()
            raise

    async def _read(self, reply: Reply) -> None:
        try:
            if len(reply.body) < LARGE_BYTES:
                await self._dispatch.slices.enter()
                taken = self._taken(reply, self._dispatch.paid)
            else:
                taken = await self._dispatch.aside.do(self._taken, reply, self._dispatch.paid_aside)
        except CallError as error:
            error.request_id = error.request_id or reply.request_id
            self._book_failure(error, reply)
            raise
        except BaseException:  # a mistake of ours, or cut off: its place is free all the same
            self._ticket.returned("untold")
            raise
        self._book_success(reply, *taken)

    def _taken(self, reply: Reply, paid: Callable[[Paid], None]) -> tuple[Tokens, Amount]:
        """Validate a reply and have it kept; returns what it is billed. Touches nothing of the loop's."""
        units = self._ticket.units
        reading = self._work.read(reply.body, units)
        rows = self._billed(Bill(reading.model, reading.tier, reading.tokens, reply.request_id, reply.latency_s))
        results = [
            ItemResult(
                ref=shard.ref, item_no=item.item_no, key=item.key, attempts=self._number, request_id=reply.request_id
            )
            for shard, item in units
        ]
        paid(Paid(self._attempt_id, reading.answers, results, rows))
        return reading.tokens, total(rows)

    def _book_success(self, reply: Reply, tokens: Tokens, cost: Amount) -> None:
        ticket = self._ticket
        self._dispatch.metrics.succeeded += len(ticket.units)
        self._dispatch.metrics.usd += cost.usd
        ticket.door.gate.settle(ticket.grant, reply.headers, tokens.prompt + tokens.completion)
        ticket.returned("answered", reply.latency_s)
        ticket.settle_budget(cost)
        ticket.member.served()
        for shard, item in ticket.units:
            shard.job.saw_output(tokens.completion)
            shard.counts["succeeded"] += 1
            shard.land(item, settled=True)

    def _book_failure(self, error: CallError, reply: Reply | None) -> None:
        cost = self._book_cost(error, reply)
        self._ticket.settle_budget(cost)
        self._ticket.returned("refused" if _is_overload(error) else "untold")
        self._tell_limiter(error, reply)
        metrics = self._dispatch.metrics
        metrics.refused[error.failure_class] += 1
        metrics.answered_429 += error.status == 429
        self._land()

    def _book_cost(self, error: CallError, reply: Reply | None) -> Amount:
        """Write what a failed call costs, as far as that is known."""
        if error.outcome == "unpaid":
            self._dispatch.unpaid(self._attempt_id, self._rows[0].ref)
            return NOTHING
        if error.outcome == "paid" and error.billed is not None:
            billed, latency_s = error.billed, reply.latency_s if reply else None
            rows = self._billed(Bill(billed.model, billed.tier, billed.tokens, error.request_id, latency_s))
            rows = wasted_rows(rows, self._ticket.units)
            self._dispatch.paid(Paid(self._attempt_id, (), (), rows))
            cost = total(rows)
            self._dispatch.metrics.usd += cost.usd
            return cost
        return self._note_unknown()

    def _note_unknown(self) -> Amount:
        """Its estimate stands, since nobody knows whether it is billed."""
        self._dispatch.unknown(self._attempt_id, self._rows)
        cost = total(self._rows)
        self._dispatch.metrics.unknown_usd += cost.usd
        return cost

    def _book_unknown(self) -> None:
        self._ticket.settle_budget(self._note_unknown())
        self._ticket.door.gate.settle(self._ticket.grant, None, None)
        self._land()

    def _billed(self, bill: Bill) -> list[Usage]:
        return billed_rows(self._rows, self._ticket.units, bill)

    def _tell_limiter(self, error: CallError, reply: Reply | None) -> None:
        headers = reply.headers if reply is not None else error.headers
        used = error.billed.tokens.prompt + error.billed.tokens.completion if error.billed is not None else None
        self._ticket.door.gate.settle(self._ticket.grant, headers or None, used)
        if error.failure.slows in ("rate", "day") and error.retry_after_s is None:
            error.retry_after_s = day_over_s(headers) or (DAY_UNTOLD_S if error.failure.slows == "day" else None)
        if error.failure.slows is not None:
            self._ticket.door.gate.penalty(error.retry_after_s, error.failure.slows)

    def _land(self) -> None:
        for shard, item in self._ticket.units:
            shard.land(item, settled=False)


def _is_overload(error: CallError) -> bool:
    """Whether the endpoint has more to do than it can: it says so, or does not answer in time."""
    return error.failure.slows is not None or error.failure_class == "timeout"
