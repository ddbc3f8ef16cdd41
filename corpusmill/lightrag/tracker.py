"""Counting tokens and money over many calls, also of calls that know nothing of the tracker.

Inside `with tracker:` every call of this package is counted. LightRAG makes its calls in tasks of its own, which may
be older than the block, so a call belongs to a tracker by where the block was opened, not only by the task's context:
it counts for the open blocks around it, and for all that were opened further inside these.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Above so many prompt tokens a model's rates may step up, so calls are kept apart by their size.
_STEPS_ABOVE = 100_000


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens of one paid call. `prompt` includes `cached` and `cache_write`, `completion` includes `reasoning`.

    `model` is the one asked for, `tier` the service tier that the reply names.
    """

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    model: str = ""
    base_url: str = ""
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class _Lot:
    """Calls that one rate prices."""

    model: str
    base_url: str
    tier: str | None
    prompt: int


class TokenTracker:
    """LightRAG's tracker, safe with threads and tasks, with cached and reasoning tokens, hits and money.

    `call_count` counts paid calls; `cached_count` those answered without one, which add no tokens.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    call_count: int
    cached_tokens: int
    reasoning_tokens: int
    cached_count: int

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._blocks: list[_Block] = []
        self.reset()

    def __enter__(self) -> Self:
        self.reset()
        self._blocks.append(_Block.open(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.pop().close()
        print(self)

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self.prompt_tokens = self.completion_tokens = self.total_tokens = self.call_count = 0
            self.cached_tokens = self.reasoning_tokens = self.cached_count = 0
            self._lots: dict[_Lot, Counter[str]] = {}
            self._unpriced = 0

    def add_usage(self, token_counts: Mapping[str, int]) -> None:
        """Count one call by LightRAG's names; without `total_tokens` it is the sum. Such a call has no price."""
        prompt, completion = token_counts.get("prompt_tokens", 0), token_counts.get("completion_tokens", 0)
        total = token_counts.get("total_tokens", prompt + completion)
        with self._lock:
            self._add(Used(prompt, completion, total))
            self._unpriced += 1

    def count(self, used: Used) -> None:
        """Count one paid call."""
        lot = _Lot(used.model, used.base_url, used.tier, used.prompt if used.prompt > _STEPS_ABOVE else 0)
        with self._lock:
            self._add(used)
            tokens = self._lots.setdefault(lot, Counter())
            tokens.update(calls=1, prompt=used.prompt, cached=used.cached)
            tokens.update(cache_write=used.cache_write, completion=used.completion)

    def count_hit(self) -> None:
        """Count an answer that needed no paid call."""
        with self._lock:
            self.cached_count += 1

    def get_usage(self) -> dict[str, int]:
        """The counts that LightRAG's tracker has; the others are attributes."""
        with self._lock:
            return {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "total_tokens": self.total_tokens,
                "call_count": self.call_count,
            }

    @property
    def usd(self) -> Decimal | None:
        """What the calls cost at list prices, or those of the file CORPUSMILL_PRICES; None: some have no known price.

        The price data is loaded at the first use (about a third of a second).
        """
        with self._lock:
            lots = {lot: Counter(tokens) for lot, tokens in self._lots.items()}
            unpriced = self._unpriced
        costs = [_cost(lot, tokens) for lot, tokens in lots.items()]
        priced = [cost for cost in costs if cost is not None]
        return sum(priced, Decimal(0)) if len(priced) == len(costs) and not unpriced else None

    def __str__(self) -> str:
        usage = self.get_usage()
        return (
            f"LLM call count: {usage['call_count']}, "
            f"Prompt tokens: {usage['prompt_tokens']}, "
            f"Completion tokens: {usage['completion_tokens']}, "
            f"Total tokens: {usage['total_tokens']}"
        )

    def _add(self, used: Used) -> None:
        self.prompt_tokens += used.prompt
        self.completion_tokens += used.completion
        self.total_tokens += used.total
        self.cached_tokens += used.cached
        self.reasoning_tokens += used.reasoning
        self.call_count += 1


class _Block:
    """One `with tracker:` that is open, and the block that it was opened in."""

    def __init__(self, tracker: TokenTracker, outer: _Block | None) -> None:
        self.tracker, self.outer = tracker, outer

    @classmethod
    def open(cls, tracker: TokenTracker) -> _Block:
        block = cls(tracker, _innermost())
        with _lock:
            _open.add(block)
        _here.set(block)
        return block

    def close(self) -> None:
        with _lock:
            _open.discard(self)
        if _here.get() is self:
            _here.set(self.outer)

    def and_outer(self) -> Iterator[_Block]:
        block: _Block | None = self
        while block is not None:
            yield block
            block = block.outer


_lock = threading.Lock()
_open: set[_Block] = set()
_here: ContextVar[_Block | None] = ContextVar("_here", default=None)


def listening() -> list[TokenTracker]:
    """The trackers that count a call made here and now."""
    if not _open:
        return []
    innermost = _innermost()
    around = set(innermost.and_outer()) if innermost else set()
    with _lock:
        inside = [block for block in _open if innermost is None or innermost in block.and_outer()]
        return [block.tracker for block in {*inside, *(around & _open)}]


def _innermost() -> _Block | None:
    """The innermost block of this context that is still open; a task may outlive the one it was started in."""
    here = _here.get()
    return next((block for block in here.and_outer() if block in _open), None) if here else None


def _cost(lot: _Lot, tokens: Mapping[str, int]) -> Decimal | None:
    from corpusmill.endpoint import OPENAI_BASE_URL
    from corpusmill.price_book import card_for

    prices: Any = os.environ.get("CORPUSMILL_PRICES")
    card = card_for(lot.model, lot.base_url or OPENAI_BASE_URL, Path(prices) if prices else None)
    if card is None:
        return None
    return card.at(lot.prompt).cost(
        lot.tier,
        prompt=tokens["prompt"],
        cached=tokens["cached"],
        cache_write=tokens["cache_write"],
        completion=tokens["completion"],
    )
