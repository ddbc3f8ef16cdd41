"""Streams in a fleet: the caller takes the item itself, as a worker would, and streams under the fleet's bucket.

What is written of it, before and after, is in `turns`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
from collections.abc import AsyncIterator

import openai
import tenacity

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, ClaimedShard, ShardRef
from corpusmill.lightrag import answering, retrying
from corpusmill.lightrag.broadcast import Broadcast
from corpusmill.lightrag.errands import Errand, Errands, Outcome
from corpusmill.lightrag.failures import is_permanent
from corpusmill.lightrag.per_loop import PerLoop
from corpusmill.lightrag.turns import Stream, Turn
from corpusmill.limits import Gate, Grant, Limiter, Scope, charge, facts_of
from corpusmill.llm.errors import CallError
from corpusmill.llm.retry_after import retry_after_s
from corpusmill.replies import loads
from corpusmill.settings import Settings


class FleetStreams:
    """Streams of this process, under the limits of the fleet."""

    def __init__(self, settings: Settings, ledger: Ledger, errands: Errands) -> None:
        self._settings, self._ledger, self._errands = settings, ledger, errands
        self._limiters = PerLoop(lambda: Limiter(settings.redis_url or "", self._first_use))
        self._id = f"stream:{platform.node()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def open(self, stream: Stream) -> AsyncIterator[answering.Piece] | Outcome:
        """The pieces as they come; or what a worker brings, if one was quicker or pays for the same already."""
        ref, number, claimed = await asyncio.to_thread(self._take, stream.errand)
        if claimed is None:
            future = self._errands.wait_for(stream.errand, ref, number)
            return await asyncio.shield(asyncio.wrap_future(future))
        turn = Turn(stream, claimed, self._ledger, worker_id=self._id, lease_s=self._settings.lease_s)
        try:
            gate = await self._gate(stream)
            broadcast = await retrying.with_retries(lambda: self._under_the_limit(turn, gate), retrying.COMPLETION)
        except BaseException as error:
            # Also of a caller that gave up while it waited for its turn: a worker must not send what nobody reads.
            await asyncio.shield(turn.failed(_class_of(error)))
            raise
        return broadcast.listen()

    def _take(self, errand: Errand) -> tuple[ShardRef, int, ClaimedShard | None]:
        standing = errand.standing
        ref, number = self._errands.place(errand)
        lane = [(standing.spec.endpoint, standing.key_fingerprint)]
        lease_s = self._settings.lease_s
        claimed = self._ledger.claim(ref, worker_id=self._id, lease_s=lease_s, holds=lane)
        if claimed is None or claimed.items:
            return ref, number, claimed
        if claimed.awaited:  # a worker pays for it; it will settle this one as well
            fences = {ref: claimed.fence}
            self._ledger.commit(Batch(fences=fences, releasing={ref: 0.0}), worker_id=self._id, lease_s=lease_s)
        return ref, number, None

    async def _gate(self, stream: Stream) -> Gate:
        standing = stream.errand.standing
        known = standing.provider in self._settings.providers
        limits = self._settings.limits_for(standing.provider) if known else self._settings.limits
        scope = Scope(standing.spec.endpoint, standing.key_fingerprint, stream.model)
        return (await self._limiters.get()).gate(scope, limits)

    async def _first_use(self, scope: Scope) -> bool:
        try:
            return await asyncio.to_thread(self._ledger.first_use, scope.digest)
        except CorpusmillError:
            return False  # the bucket starts empty, which costs its burst and nothing else

    async def _under_the_limit(self, turn: Turn, gate: Gate) -> Broadcast:
        max_output, chars = facts_of(loads(turn.stream.letter.body))
        provider = self._settings.providers.get(turn.stream.errand.standing.provider)
        tokens = charge(provider.charge if provider else "openai", max_output=max_output, chars=chars)
        grant = await gate.acquire(turn.ref.job_id, tokens, priority="high")
        try:
            await turn.begins()
            broadcast = await Broadcast.open(turn.stream.wire, turn.stream.letter, turn.whole, turn.broken)
        except Exception as error:
            _tell(gate, grant, error)
            call = _call_of(error)
            if call is not None and call.outcome == "unpaid":
                await turn.unpaid()
            raise
        except BaseException:
            gate.settle(grant, None, None)
            raise
        gate.settle(grant, broadcast.gathered.headers, None)
        return broadcast


def _call_of(error: BaseException) -> CallError | None:
    """The failed call behind an exception of the SDK's, which a wire makes while it handles it."""
    return error.__context__ if isinstance(error.__context__, CallError) else None


def _class_of(error: BaseException) -> str:
    """What the ledger calls the failure."""
    last = error.last_attempt.exception() if isinstance(error, tenacity.RetryError) else error
    call = _call_of(last) if last is not None else None
    return call.failure_class if call is not None else "cancelled"


def _tell(gate: Gate, grant: Grant, error: Exception) -> None:
    """The fleet learns of a refusal that this process met."""
    response = error.response if isinstance(error, openai.APIStatusError) else None
    headers = response.headers if response is not None else {}
    gate.settle(grant, headers or None, None)
    if isinstance(error, openai.RateLimitError) and not is_permanent(error):
        gate.penalty(retry_after_s(headers, str(error)), "rate")
