"""What this process knows of a job whose shards it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.records import JobRun
from corpusmill.llm.usage import Tokens
from corpusmill.prices import PriceCard

# Taken for the length of an answer while none has been seen and the request sets no limit.
ASSUMED_OUTPUT = 4_096


@dataclass(slots=True)
class RunningJob:
    """A job, its price card, and the longest answer seen in it (tokens; 0: none yet)."""

    run: JobRun
    card: PriceCard | None
    largest_output: int = 0
    # Chunks are alike, so few estimates differ, and exact arithmetic is slow.
    _estimates: dict[tuple[int, int], Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, run: JobRun) -> RunningJob:
        """The job as the ledger gives it."""
        return cls(run, PriceCard.from_json(run.price_card) if run.price_card else None)

    def expected_output(self, cap: int | None) -> int:
        """Tokens that an answer may have: the request's own limit, else the longest seen, else an assumption."""
        if self.run.spec.kind == "embedding":
            return 0
        return cap if cap is not None else self.largest_output or ASSUMED_OUTPUT

    def estimate(self, prompt_tokens: int, output_tokens: int) -> Decimal | None:
        """USD that a call may cost at most; None: the model is unpriced."""
        if self.card is None:
            return None
        asked = (prompt_tokens, output_tokens)
        found = self._estimates.get(asked)
        if found is None:
            # One that spills may be served at the usual price.
            tier = None if self.run.flex == "spill" else self.run.spec.options.get("service_tier")
            found = self._estimates[asked] = self.card.estimate(prompt_tokens, output_tokens, tier=tier)
        return found

    def takes(self, prompt_tokens: int, output_tokens: int) -> Amount:
        """What a call may take of the job's budget at most."""
        return Amount(self.estimate(prompt_tokens, output_tokens) or Decimal(0), prompt_tokens + output_tokens)

    def cost(self, tier: str | None, tokens: Tokens) -> Decimal | None:
        """USD that a call cost at the tier that was served; None: not known."""
        if self.card is None:
            return None
        return self.card.cost(
            tier,
            prompt=tokens.prompt,
            cached=tokens.cached,
            cache_write=tokens.cache_write,
            completion=tokens.completion,
        )

    def saw_output(self, tokens: int) -> None:
        """Remember the length of an answer."""
        self.largest_output = max(self.largest_output, tokens)
