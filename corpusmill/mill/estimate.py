"""What calls will cost, reckoned from a price card."""

from __future__ import annotations

from decimal import Decimal

from corpusmill.prices import PriceCard
from corpusmill.spec import JobSpec
from corpusmill.tokens import encoding_for

# What a chat request adds to the tokens of its messages' texts.
_CHAT_TOKENS = 7


def overhead_tokens(spec: JobSpec) -> int:
    """Tokens of a completion's prompt and system message, which every request carries."""
    if spec.kind != "completion":
        return 0
    encoding = encoding_for(spec.model)
    return encoding.count(spec.prompt or "") + encoding.count(spec.system or "") + _CHAT_TOKENS


def usd_of(card: PriceCard, *, calls: int, prompt_tokens: int, output_tokens: int, tier: str | None) -> Decimal:
    """USD for `calls` of mean length; `prompt_tokens` are those of all calls, `output_tokens` those of one."""
    # What does not divide evenly is paid for once.
    mean, rest = divmod(prompt_tokens, calls) if calls else (0, 0)
    return card.estimate(mean, output_tokens, tier=tier) * calls + card.estimate(rest, 0, tier=tier)
