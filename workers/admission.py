"""What a request needs before it may be sent: its turn, a place in the window, its budget's and the limiter's leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from corpusmill.ledger.amounts import NOTHING, Amount
from corpusmill.ledger.records import JobRun
from corpusmill.limits import Ending, Grant, LimiterParked, Place
from workers.dispatch import Dispatch
from workers.held import GivenUp, Unit
from workers.lane import Door, Member
from workers.purse import Purse
from workers.stream import Stream
from workers.work import Facts, Work

Units = tuple[Unit, ...]
# A wait beyond this is not sat out; see `LimiterParked`.
PARK_S = 60.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a request was admitted with. Leave and budget have to be settled: by the call, or by `unused`.

    `place`: at an endpoint that tells no limits, its place among the calls that may be under way there.
    """

    units: Units
    facts: Facts
    member: Member
    door: Door
    grant: Grant
    place: Place | None
    purse: Purse | None
    set_aside: Amount

    def unused(self) -> None:
        """No call was made."""
        self.door.gate.release(self.grant)
        self.returned("untold")
        self.settle_budget(NOTHING)

    def returned(self, ending: Ending, latency_s: float = 0.0) -> None:
        """The call is over, or was not made: its place at the endpoint is free."""
        self.member.trying = False
        if self.place is not None:
            self.door.room.leave(self.place, ending, latency_s)

    def settle_budget(self, cost: Amount) -> None:
        """The call is over, or was not made, and has cost `cost`."""
        if self.purse is not None:
            self.purse.settle(self.set_aside, cost=cost)


async def admit(dispatch: Dispatch, stream: Stream, work: Work, wanted: Callable[[], Units]) -> Ticket:
    """Wait for everything. The place in the window is the caller's now, who gives it back after the call.

    `wanted` gives the units that may still be sent; waiting takes time, so it is asked again at the end.

    Raises:
        GivenUp: nobody wants the request any more, or nobody at the lane's other end may be called.
        OverBudget, ShardLost: from the purse.
        LimiterParked, RequestTooLarge: from the limiter.
    """
    async with stream.turns:
        while True:
            # No place in the window is held meanwhile: who is alone needs one.
            await dispatch.let(stream)
            await dispatch.window.acquire()
            try:
                ticket = await _admitted(dispatch, stream, work, wanted)
            except BaseException:
                dispatch.window.release()
                raise
            if ticket is not None:
                return ticket
            dispatch.window.release()


async def _admitted(dispatch: Dispatch, stream: Stream, work: Work, wanted: Callable[[], Units]) -> Ticket | None:
    """The ticket of one that has its place in the window; None when somebody else is alone by now."""
    while True:
        await dispatch.clear()
        ticket = _still(wanted, await _ticket(stream, work, wanted()))
        if dispatch.is_clear and dispatch.lets(stream):
            return ticket
        # The process may have slept while it waited, and its leases be over.
        ticket.unused()
        if not dispatch.lets(stream):
            return None


def _still(wanted: Callable[[], Units], ticket: Ticket) -> Ticket:
    """The ticket for what is wanted after the wait."""
    try:
        units = wanted()
    except GivenUp:
        ticket.unused()
        raise
    return ticket if units == ticket.units else replace(ticket, units=units)


async def _ticket(stream: Stream, work: Work, units: Units) -> Ticket:
    facts, shard = work.facts(units), units[0].shard
    set_aside = NOTHING
    # Jobs with a budget share no pack with others, so that any shard of it stands for all.
    if shard.purse is not None:
        set_aside = shard.job.takes(facts.prompt_tokens, shard.job.expected_output(facts.max_output))
        await shard.purse.take(set_aside)
    try:
        member, door, place, grant = await _leave(stream, facts, shard.job.run)
    except BaseException:
        if shard.purse is not None:
            shard.purse.settle(set_aside, cost=NOTHING)
        raise
    return Ticket(units, facts, member, door, grant, place, shard.purse, set_aside)


async def _leave(stream: Stream, facts: Facts, run: JobRun) -> tuple[Member, Door, Place | None, Grant]:
    """Leave to send, from the member of the lane that gives it soonest."""
    lane = stream.lane
    while True:
        member = lane.choose(stream.model, facts)
        if member is None:
            raise GivenUp
        member.trying = member.on_trial
        try:
            admitted = await _at(lane.door(member, stream.model), stream, member.tokens(facts), run)
        except LimiterParked:
            member.trying = False
            # Its limit of a day may be used up; others of the pool may have some left.
            if lane.shortest_wait_s(stream.model, facts) > PARK_S:
                raise
            continue
        except BaseException:
            member.trying = False
            raise
        if member.shut is None:
            return member, *admitted
        # Its key was refused while we waited for it.
        _give_back(lane.door(member, stream.model), *admitted[1:])


async def _at(door: Door, stream: Stream, tokens: int, run: JobRun) -> tuple[Door, Place | None, Grant]:
    place = await door.room.enter() if door.gate.unlimited else None
    try:
        share = 1.0 if run.max_share is None else run.max_share
        return door, place, await door.gate.acquire(run.id, tokens, priority=stream.priority, max_share=share)
    except BaseException:
        if place is not None:
            door.room.leave(place, "untold")
        raise


def _give_back(door: Door, place: Place | None, grant: Grant) -> None:
    door.gate.release(grant)
    if place is not None:
        door.room.leave(place, "untold")
