"""Streams in a fleet: the caller takes the item itself, as a worker would, and streams under the fleet's bucket.

The item's shard is claimed, so that no worker sends it too; the answer, its usage and its result are written when the
stream has ended, and an unknown spend where it broke or was left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass, replace
from decimal import Decimal

import openai
import tenacity

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Answer, Batch, ClaimedShard, ItemResult, ShardRef, Usage, UsageOutcome
from corpusmill.lightrag import answering, retrying
from corpusmill.lightrag.broadcast import Broadcast
from corpusmill.lightrag.errands import Errand, Errands, Outcome
from corpusmill.lightrag.events import Gathered
from corpusmill.lightrag.failures import is_permanent
from corpusmill.lightrag.per_loop import PerLoop
from corpusmill.lightrag.usage import Meter, used_in
from corpusmill.lightrag.wires import Letter, Wire
from corpusmill.limits import Gate, Grant, Limiter, Scope, charge, facts_of
from corpusmill.llm.errors import CallError, named
from corpusmill.llm.retry_after import retry_after_s
from corpusmill.llm.usage import Tokens, tokens_of
from corpusmill.prices import PriceCard
from corpusmill.replies import loads
from corpusmill.settings import Settings

log = logging.getLogger(__name__)

# A stream is never taken over by a worker while it may still run: nobody would read it.
_LEASE_MARGIN_S = 60.0
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream to be opened, and who counts it."""

    errand: Errand
    letter: Letter
    wire: Wire
    meter: Meter

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.errand.standing.spec.model


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
        turn = _Turn(stream, claimed, self._ledger, self._id)
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
        lease_s = self._settings.timeout_s + _LEASE_MARGIN_S
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

    async def _under_the_limit(self, turn: _Turn, gate: Gate) -> Broadcast:
        max_output, chars = facts_of(loads(turn.stream.letter.body))
        provider = self._settings.providers.get(turn.stream.errand.standing.provider)
        tokens = charge(provider.charge if provider else "openai", max_output=max_output, chars=chars)
        grant = await gate.acquire(turn.ref.job_id, tokens, priority="high")
        try:
            broadcast = await Broadcast.open(turn.stream.wire, turn.stream.letter, turn.whole, turn.broken)
        except Exception as error:
            _tell(gate, grant, error)
            call = _call_of(error)
            if call is None or call.outcome != "unpaid":
                await turn.spent_perhaps()
            raise
        except BaseException:
            gate.settle(grant, None, None)
            raise
        gate.settle(grant, broadcast.gathered.headers, None)
        return broadcast


class _Turn:
    """One claimed item, from its request to its result."""

    def __init__(self, stream: Stream, claimed: ClaimedShard, ledger: Ledger, worker_id: str) -> None:
        self.stream, self.ref = stream, claimed.ref
        self._claimed, self._ledger, self._id = claimed, ledger, worker_id
        (self._item,) = claimed.items

    async def whole(self, gathered: Gathered) -> None:
        """The stream has ended: its answer, usage and result are written, and its caller counts it."""
        reply = gathered.reply()
        tokens = tokens_of(reply) or Tokens(0)
        answer = Answer(
            key=self._item.key,
            body=gathered.body(),
            model=str(reply.get("model") or self.stream.model),
            tier=reply.get("service_tier"),
            finish_reason=gathered.finish_reason,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cached_tokens=tokens.cached,
            reasoning_tokens=tokens.reasoning,
            truncated=gathered.finish_reason == "length",
        )
        result = ItemResult(self.ref, self._item.item_no, self._item.key)
        paid = self._usage(tokens, answer.tier, "paid", named(gathered.headers.get("x-request-id")))
        usage = paid if gathered.says_usage else self._guess(gathered)
        await self._commit(Batch(answers=[answer], results=[result], usage=[usage]))
        if gathered.says_usage:
            spec = self.stream.errand.standing.spec
            self.stream.meter.paid(used_in(reply, model=spec.model, base_url=spec.endpoint))

    async def broken(self, gathered: Gathered) -> None:
        """The stream has no end: what it cost nobody knows."""
        await self.failed("connection_lost", self._guess(gathered))

    async def spent_perhaps(self) -> None:
        """An attempt brought no stream, and may have been billed all the same."""
        await self._commit(Batch(usage=[self._guess(Gathered())]), closing=False)

    async def failed(self, error_class: str, usage: Usage | None = None) -> None:
        """There is no answer; the item is over all the same, since nobody waits for it any more."""
        result = ItemResult(self.ref, self._item.item_no, None, error_class=error_class, error="the stream failed")
        await self._commit(Batch(results=[result], usage=[usage] if usage else []))

    def _guess(self, gathered: Gathered) -> Usage:
        """What the endpoint did not say: the tokens sent, and those that came, as far as they can be told."""
        tokens = Tokens(self._item.tokens, completion=sum(map(len, gathered.texts())) // _CHARACTERS_A_TOKEN)
        return self._usage(tokens, None, "unknown")

    def _usage(self, tokens: Tokens, tier: str | None, outcome: UsageOutcome, request_id: str | None = None) -> Usage:
        card = self._claimed.job.price_card
        usd: Decimal | None = None
        if card is not None:
            usd = PriceCard.from_json(card).cost(
                tier, prompt=tokens.prompt, cached=tokens.cached, completion=tokens.completion
            )
        return Usage(
            attempt_id=secrets.token_bytes(16),
            ref=self.ref,
            provider=self._claimed.job.provider,
            model=self.stream.model,
            tier=tier,
            items=1,
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            completion_tokens=tokens.completion,
            reasoning_tokens=tokens.reasoning,
            usd=usd,
            outcome=outcome,
            request_id=request_id,
        )

    async def _commit(self, said: Batch, *, closing: bool = True) -> None:
        batch = replace(said, fences={self.ref: self._claimed.fence}, closing=[self.ref] if closing else [])
        try:
            await asyncio.to_thread(self._ledger.commit, batch, worker_id=self._id, lease_s=_LEASE_MARGIN_S)
        except CorpusmillError as error:
            # The listener has the whole answer; it must not lose it because the ledger is away.
            log.warning("a stream could not be written job=%d shard=%d: %s", *astuple(self.ref), error.what)


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
