"""The tokens that a reply says it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one paid call. `prompt` includes `cached` and `cache_write`, `completion` includes `reasoning`."""

    prompt: int
    cached: int = 0
    cache_write: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Billed:
    """What a paid reply is billed as. `model` is empty and `tier` None where the reply does not say."""

    model: str
    tier: str | None
    tokens: Tokens


def tokens_of(reply: Any) -> Tokens | None:
    """The usage that a reply states, or None where it states none that can be read."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    read = _part(usage, "prompt_tokens_details", "input_tokens_details")
    made = _part(usage, "completion_tokens_details", "output_tokens_details")
    return Tokens(
        prompt=prompt,
        cached=_count(read, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens") or 0,
        cache_write=_count(read, "cache_write_tokens") or 0,
        completion=_count(usage, "completion_tokens", "output_tokens") or 0,
        reasoning=_count(made, "reasoning_tokens") or 0,
    )


def billed_of(reply: Any) -> Billed | None:
    """What a reply is billed as, or None where it states no usage."""
    tokens = tokens_of(reply)
    if tokens is None:
        return None
    model, tier = reply.get("model"), reply.get("service_tier")
    return Billed(model if isinstance(model, str) else "", tier if isinstance(tier, str) else None, tokens)


def _count(usage: dict[str, Any], *names: str) -> int | None:
    """The first of these fields that is a count; some endpoints write -1 or null for unknown."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _part(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        value = usage.get(name)
        if isinstance(value, dict):
            return value
    return {}
