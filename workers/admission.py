"""What a request needs before it may be sent: its turn, a place in the window, money, and the limiter's leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from corpusmill.limits import Gate, Grant, charge
from workers.dispatch import Dispatch
from workers.held import Unit
from workers.lane import Member
from workers.stream import Stream
from workers.work import Facts, Work

Units = tuple[Unit, ...]


class GivenUp(Exception):
    """Nobody wants the request any more: its shards were halted."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request was admitted with. Leave and money have to be settled: by the call, or by `unused`."""

    units: Units
    facts: Facts
    member: Member
    gate: Gate
    grant: Grant
    set_aside: Decimal | None

    def unused(self) -> None:
        """No call was made."""
        self.gate.release(self.grant)
        self.settle_money(Decimal(0))

    def settle_money(self, cost: Decimal) -> None:
        """The call is over, or was not made, and has cost `cost`."""
        _settle(self.units, self.set_aside, cost)


async def admit(dispatch: Dispatch, stream: Stream, work: Work, wanted: Callable[[], Units]) -> Ticket:
    """Wait for everything. The place in the window is the caller's now, who gives it back after the call.

    `wanted` gives the units that may still be sent; waiting takes time, so it is asked again at the end.

    Raises:
        GivenUp: nobody wants the request any more, or nobody at the lane's other end may be called.
        OverBudget, ShardLost: from the purse.
        LimiterParked, RequestTooLarge: from the limiter.
    """
    async with stream.turns:
        await dispatch.window.acquire()
        try:
            while True:
                await dispatch.clear()
                ticket = _still(wanted, await _ticket(stream, work, wanted()))
                if dispatch.is_clear:
                    return ticket
                # The process may have slept while it waited, and its leases be over.
                ticket.unused()
        except BaseException:
            dispatch.window.release()
            raise


def _still(wanted: Callable[[], Units], ticket: Ticket) -> Ticket:
    """The ticket for what is wanted after the wait."""
    try:
        units = wanted()
    except GivenUp:
        ticket.unused()
        raise
    return ticket if units == ticket.units else replace(ticket, units=units)


async def _ticket(stream: Stream, work: Work, units: Units) -> Ticket:
    member = stream.lane.choose()
    if member is None:
        raise GivenUp
    facts = work.facts(units)
    gate = stream.lane.gate(member, stream.model)
    tokens = charge(member.endpoint.charge, max_output=facts.max_output, chars=facts.chars)
    set_aside = await _set_aside(units, facts)
    try:
        grant = await gate.acquire(units[0].shard.job.run.id, tokens, priority=stream.priority)
    except BaseException:
        _settle(units, set_aside, Decimal(0))
        raise
    return Ticket(units, facts, member, gate, grant, set_aside)


async def _set_aside(units: Sequence[Unit], facts: Facts) -> Decimal | None:
    """Have the job's budget cover the call; None: it has none. Jobs with a budget share no pack with others."""
    shard = units[0].shard
    if shard.purse is None:
        return None
    usd = shard.job.estimate(facts.prompt_tokens, shard.job.expected_output(facts.max_output))
    if usd is not None:
        await shard.purse.take(usd)
    return usd


def _settle(units: Sequence[Unit], set_aside: Decimal | None, cost: Decimal) -> None:
    purse = units[0].shard.purse
    if purse is not None and set_aside is not None:
        purse.settle(set_aside, cost=cost)
