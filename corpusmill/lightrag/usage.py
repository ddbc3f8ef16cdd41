"""What one paid call used, and telling it to whoever counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corpusmill.lightrag.tracker import TokenTracker, Used, listening
from corpusmill.llm.usage import tokens_of


@dataclass(frozen=True, slots=True)
class Meter:
    """Who counts the calls of one caller: those it named, and every open `with tracker:` around it."""

    trackers: tuple[Any, ...]

    @classmethod
    def of(cls, named: Any) -> Meter:
        """The meter of a caller that passes `token_tracker=named`."""
        found: dict[int, Any] = {id(each): each for each in listening()}
        if named is not None and named is not False:
            found.setdefault(id(named), named)
        return cls(tuple(found.values()))

    def paid(self, used: Used, *, embedding: bool = False) -> None:
        """Count a call that was paid for."""
        for tracker in self.trackers:
            if isinstance(tracker, TokenTracker):
                tracker.count(used)
            else:
                tracker.add_usage(_as_lightrag_says_it(used, embedding=embedding))

    def hit(self) -> None:
        """Count an answer that needed no call."""
        for tracker in self.trackers:
            if isinstance(tracker, TokenTracker):
                tracker.count_hit()


def used_in(reply: Mapping[str, Any], *, model: str, base_url: str) -> Used:
    """What a reply says it used; zeros where it does not say. `model`: the one that was asked for."""
    tokens, usage = tokens_of(reply), reply.get("usage")
    if tokens is None:
        return Used(model=model, base_url=base_url)
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    tier = reply.get("service_tier")
    return Used(
        prompt=tokens.prompt,
        completion=tokens.completion,
        total=total if isinstance(total, int) else tokens.prompt + tokens.completion,
        cached=tokens.cached,
        cache_write=tokens.cache_write,
        reasoning=tokens.reasoning,
        model=model,
        base_url=base_url,
        tier=tier if isinstance(tier, str) else None,
    )


def _as_lightrag_says_it(used: Used, *, embedding: bool) -> dict[str, int]:
    counts: Iterable[tuple[str, int]] = (
        ("prompt_tokens", used.prompt),
        ("completion_tokens", used.completion),
        ("total_tokens", used.total),
    )
    return {name: count for name, count in counts if not (embedding and name == "completion_tokens")}
