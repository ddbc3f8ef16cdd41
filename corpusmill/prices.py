"""What tokens cost, in exact arithmetic.

A price card goes into the ledger when a job is submitted; workers multiply with it and know no price source.
Money is Decimal USD, exact to a millionth of a millionth (the ledger's unit); rates are USD per million tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

PICO_USD = Decimal("1e-12")
_PER_MILLION = Decimal("1e-6")
STANDARD = "default"
# The tiers that name no tier of their own.
_STANDARD_NAMES = frozenset({None, "", "auto", "default", "standard", "on_demand"})

# A rate by prompt length: (above so many prompt tokens, USD per million), ascending from 0.
Steps = tuple[tuple[int, Decimal], ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of one tier. Without a rate of their own, cached and cache-write tokens cost what input costs."""

    input: Steps
    output: Steps = ((0, Decimal(0)),)
    cached: Steps | None = None
    cache_write: Steps | None = None

    def cost(self, *, prompt: int, cached: int, cache_write: int, completion: int) -> Decimal:
        """USD for one call. A prompt above a threshold pays that step's rate for all of its tokens."""
        fresh = max(0, prompt - cached - cache_write)
        total = (
            fresh * _rate(self.input, prompt)
            + cached * _rate(self.cached or self.input, prompt)
            + cache_write * _rate(self.cache_write or self.input, prompt)
            + completion * _rate(self.output, prompt)
        )
        return (total * _PER_MILLION).quantize(PICO_USD)

    def at(self, prompt: int) -> Rates:
        """The same rates without steps, for calls of so many prompt tokens: these price sums over many calls."""
        steps = {name: getattr(self, name) for name in ("input", "output", "cached", "cache_write")}
        return Rates(**{name: ((0, _rate(each, prompt)),) for name, each in steps.items() if each is not None})


@dataclass(frozen=True, slots=True)
class PriceCard:
    """A model's prices as they stood on `date` according to `source`, by service tier."""

    model: str
    source: str
    date: str
    tiers: Mapping[str, Rates]

    def cost(
        self, tier: str | None, *, prompt: int, cached: int = 0, cache_write: int = 0, completion: int = 0
    ) -> Decimal | None:
        """USD for one call at the tier that the reply names; None: that tier's price is not known.

        `prompt` includes `cached` and `cache_write`; `completion` includes reasoning tokens.
        """
        rates = self.tiers.get(STANDARD if tier in _STANDARD_NAMES else str(tier))
        if rates is None:
            return None
        return rates.cost(prompt=prompt, cached=cached, cache_write=cache_write, completion=completion)

    def at(self, prompt_tokens: int) -> PriceCard:
        """The card for many calls of that prompt size each, whose tokens are then priced as one sum."""
        return PriceCard(self.model, self.source, self.date, {t: r.at(prompt_tokens) for t, r in self.tiers.items()})

    def estimate(self, prompt_tokens: int, max_output: int, *, tier: str | None = None) -> Decimal:
        """USD that one call may cost at most with nothing cached; a tier without a price counts as the dearest."""
        cost = self.cost(tier, prompt=prompt_tokens, completion=max_output)
        if cost is not None:
            return cost
        return max(
            rates.cost(prompt=prompt_tokens, cached=0, cache_write=0, completion=max_output)
            for rates in self.tiers.values()
        )

    def as_json(self) -> dict[str, Any]:
        """For the ledger; `from_json` turns it back. Rates are strings, so that they stay exact."""
        tiers = {tier: _rates_as_json(rates) for tier, rates in self.tiers.items()}
        return {"model": self.model, "source": self.source, "date": self.date, "tiers": tiers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PriceCard:
        """The card that `as_json` wrote."""
        tiers = {tier: _rates_from_json(rates) for tier, rates in data["tiers"].items()}
        return cls(data["model"], data["source"], data["date"], tiers)


def _rate(steps: Steps, prompt: int) -> Decimal:
    rate = steps[0][1]
    for above, step in steps[1:]:
        if prompt <= above:
            break
        rate = step
    return rate


def _rates_as_json(rates: Rates) -> dict[str, list[list[Any]] | None]:
    named = (
        ("input", rates.input),
        ("output", rates.output),
        ("cached", rates.cached),
        ("cache_write", rates.cache_write),
    )
    return {name: [[above, str(rate)] for above, rate in steps] for name, steps in named if steps is not None}


def _rates_from_json(data: Mapping[str, Any]) -> Rates:
    return Rates(**{name: tuple((above, Decimal(rate)) for above, rate in steps) for name, steps in data.items()})
