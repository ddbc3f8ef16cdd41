"""One item that this process sends itself: what the ledger is told of it, from its claim to its result.

The item's shard is held as a worker would hold it, for as long as this goes on, so that no worker sends it too. Before
each attempt a row says that it may have cost something; what is known afterwards takes its place. A program that is
killed leaves that row, and a shard that a worker takes over when its lease is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import astuple, dataclass, replace
from decimal import Decimal

from corpusmill.attempt import new_attempt_id
from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Answer, Batch, ClaimedShard, ItemResult, ShardRef, Usage, UsageOutcome
from corpusmill.lightrag.errands import Errand
from corpusmill.lightrag.events import Gathered
from corpusmill.lightrag.usage import Meter, used_in
from corpusmill.lightrag.wires import Letter, Wire
from corpusmill.llm.errors import named
from corpusmill.llm.usage import Tokens, tokens_of
from corpusmill.prices import PriceCard

log = logging.getLogger(__name__)

_CHARACTERS_A_TOKEN = 4
_RENEWALS_A_LEASE = 3


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


class Turn:
    """One claimed item, from its first attempt to its result."""

    def __init__(
        self, stream: Stream, claimed: ClaimedShard, ledger: Ledger, *, worker_id: str, lease_s: float
    ) -> None:
        self.stream, self.ref = stream, claimed.ref
        self._claimed, self._ledger, self._id, self._lease_s = claimed, ledger, worker_id, lease_s
        (self._item,) = claimed.items
        self._attempt_id = b""
        self._renewals = asyncio.create_task(self._renew())

    async def begins(self) -> None:
        """An attempt is about to be made: whatever becomes of us, it may have cost something."""
        self._attempt_id = new_attempt_id()
        await self._commit(Batch(usage=[self._guess(Gathered())]))

    async def unpaid(self) -> None:
        """The attempt is known to have cost nothing."""
        await self._commit(Batch(known=self._this_attempt(), unpaid={self.ref: 1}))

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
        await self._close(Batch(answers=[answer], results=[result], usage=[usage], known=self._this_attempt()))
        if gathered.says_usage:
            spec = self.stream.errand.standing.spec
            self.stream.meter.paid(used_in(reply, model=spec.model, base_url=spec.endpoint))

    async def broken(self, gathered: Gathered) -> None:
        """The stream has no end: what it cost nobody knows."""
        await self._failed("connection_lost", Batch(usage=[self._guess(gathered)], known=self._this_attempt()))

    async def failed(self, error_class: str) -> None:
        """There is no answer; the item is over all the same, since nobody waits for it any more."""
        await self._failed(error_class, Batch())

    async def _failed(self, error_class: str, said: Batch) -> None:
        result = ItemResult(self.ref, self._item.item_no, None, error_class=error_class, error="the stream failed")
        await self._close(replace(said, results=[result]))

    def _this_attempt(self) -> dict[ShardRef, Collection[bytes]]:
        return {self.ref: [self._attempt_id]}

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
            attempt_id=self._attempt_id,
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

    async def _renew(self) -> None:
        """Keep the shard, however long it takes until the item's turn comes and until its stream has ended."""
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS_A_LEASE)
            await self._commit(Batch(renew=True))

    async def _close(self, said: Batch) -> None:
        self._renewals.cancel()
        await self._commit(replace(said, closing=[self.ref]))

    async def _commit(self, said: Batch) -> None:
        batch = replace(said, fences={self.ref: self._claimed.fence})
        try:
            await asyncio.to_thread(self._ledger.commit, batch, worker_id=self._id, lease_s=self._lease_s)
        except CorpusmillError as error:
            # The listener has the whole answer; it must not lose it because the ledger is away.
            log.warning("a stream could not be written job=%d shard=%d: %s", *astuple(self.ref), error.what)
