"""The price card that a job carries."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from corpusmill.errors import UsageError
from corpusmill.prices import PriceCard
from corpusmill.settings import Settings


def card_of(settings: Settings, provider: str, models: Collection[str]) -> PriceCard | None:
    """The card for a job's model; None when it is unpriced, or when a request file asks for several models.

    (A job has one card. What several models cost is filled in by `corpusmill usage --reprice`.)
    """
    if len(models) != 1:
        return None
    return card_for_model(settings, provider, next(iter(models)))


def card_for_model(settings: Settings, provider: str, model: str) -> PriceCard | None:
    """The card for a model at a provider that is set, or at OpenAI where it is not; None when it is unpriced."""
    # Loading the price data takes a third of a second: only when a card is really asked for.
    from corpusmill.price_book import card_for

    return card_for(model, base_url_of(settings, provider), settings.prices)


def refuse_budget(budget_usd: Decimal | None, model: str, *, priced: bool, several: bool = False) -> None:
    """Refuse a budget that nothing could be reckoned against.

    Raises:
        UsageError: there is a budget, and the model has no price or there are several models.
    """
    if budget_usd is None or priced:
        return
    if several:
        raise UsageError(
            "the file asks for several models and a job has one price, so a budget cannot be kept",
            next_step="write one file for each model, or leave out --budget",
        )
    raise UsageError(
        f"{model} has no known price, so a budget cannot be kept",
        next_step="give its price in the file that CORPUSMILL_PRICES names, or leave out --budget",
    )


def base_url_of(settings: Settings, provider: str) -> str:
    """Where a provider's calls go; of a pool, its first member's."""
    from corpusmill.endpoint import OPENAI_BASE_URL

    if provider not in settings.providers:
        return OPENAI_BASE_URL
    return settings.endpoints(provider)[0].base_url
