"""Where a model's price card comes from: the user's own price file, else the published prices shipped with a package.

Nothing is downloaded. Only producers use this, once at submit; loading the price data takes a third of a second.

The price file is TOML or JSON, rates in USD per million tokens; a rate that rises with the prompt is a list of steps:

    [models."my-model"]                    # exact, or a pattern such as "Qwen/*"; the first that matches counts
    base_url = "http://gpu-box:8000/v1"    # only for calls to this endpoint; left out: for every one
    input = 0.10
    output = [[0, 0.40], [272000, 0.60]]   # above 272,000 prompt tokens all output costs 0.60
    cached = 0.01                          # left out: as input
    cache_write = 0.125
    [models."my-model".tiers.flex]
    input = 0.05
    output = 0.20
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpusmill.errors import SettingsError
from corpusmill.prices import STANDARD, PriceCard, Rates, Steps
from corpusmill.spec import normalised

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_RATES = ("input", "output", "cached", "cache_write")
_FIELDS = (*_RATES, "base_url", "tiers")
# What the endpoints say or are asked for, and how the price data knows it.
_TIERS = {
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
    "batch": {"processing": "batch"},
}


def card_for(model: str, base_url: str, overrides: Path | None = None) -> PriceCard | None:
    """The price card of `model` at this endpoint, or None: unpriced.

    An endpoint that the price data does not know (a gateway, the simulator) is taken to charge OpenAI's list price
    for a model of OpenAI's; the card's source says so.

    Raises:
        SettingsError: the price file cannot be read or understood.
    """
    own = _own_card(model, base_url, overrides) if overrides is not None else None
    return own or _published_card(model, base_url)


# --- the user's file ----------------------------------------------------------------------------------------------


def _own_card(model: str, base_url: str, path: Path) -> PriceCard | None:
    for name, entry in _entries(path):
        if not (name == model or fnmatchcase(model, name)):
            continue
        if entry.get("base_url") and normalised(str(entry["base_url"])) != normalised(base_url):
            continue
        tiers = {STANDARD: entry, **entry.get("tiers", {})}
        rates = {tier: _own_rates(fields, f"{path}: {name}") for tier, fields in tiers.items()}
        return PriceCard(model, f"price file {path.name}", _today(), rates)
    return None


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each model's entry, checked as far as all entries are alike: exact names before patterns, else file order."""
    models = _read(path).get("models")
    if not isinstance(models, dict):
        raise _wrong("the price file has no table `models`", str(path))
    for name, entry in sorted(models.items(), key=lambda each: "*" in each[0]):
        if not isinstance(entry, dict):
            raise _wrong("a model's prices are a table", f"{path}: {name}")
        yield name, entry


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text("utf-8")
        data = (
            json.loads(text, parse_float=Decimal)
            if path.suffix == ".json"
            else tomllib.loads(text, parse_float=Decimal)
        )
    except OSError as error:
        raise _wrong(f"the price file {path} cannot be read: {error.strerror}", str(path)) from None
    except ValueError as error:  # both parsers' errors, and bytes that are no UTF-8
        raise _wrong(f"the price file cannot be understood: {error}", str(path)) from None
    return data if isinstance(data, dict) else {}


def _own_rates(fields: Any, where: str) -> Rates:
    if not isinstance(fields, dict) or "input" not in fields:
        raise _wrong("prices need at least `input`, in USD per million tokens", where)
    for name in fields:
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise _wrong(f"prices have no field `{name}`{hint}", where)
    return Rates(**{name: _own_steps(fields[name], f"{where}: {name}") for name in _RATES if name in fields})


def _own_steps(value: Any, where: str) -> Steps:
    pairs = value if isinstance(value, list) else [[0, value]]
    try:
        steps = tuple((int(above), Decimal(rate)) for above, rate in pairs)
    except (TypeError, ValueError, ArithmeticError):
        raise _wrong("a price is a number, or a list of [above so many prompt tokens, number]", where) from None
    ascending = [above for above, _ in steps] == sorted({above for above, _ in steps})
    if not steps or steps[0][0] != 0 or not ascending or any(not rate.is_finite() or rate < 0 for _, rate in steps):
        raise _wrong("the steps of a price ascend from 0, and no price is negative", where)
    return steps


def _wrong(what: str, where: str) -> SettingsError:
    return SettingsError(what, where=where, next_step="correct the price file that CORPUSMILL_PRICES names")


# --- published prices ---------------------------------------------------------------------------------------------


def _published_card(model: str, base_url: str) -> PriceCard | None:
    import genai_prices  # slow to import, and most processes never need it
    from genai_prices.data_snapshot import get_snapshot

    source = f"genai-prices {genai_prices.__version__}"
    snapshot = get_snapshot()
    try:
        provider = snapshot.find_provider(None, None, base_url)
    except LookupError:
        provider = snapshot.find_provider(None, "openai", None)
        source += ", OpenAI's list price by the model's name"
    found = provider.find_model(model, all_providers=snapshot.providers)
    if found is None:
        return None
    rates = _published_rates(found, own=any(found is each for each in provider.models))
    return PriceCard(model, source, _today(), rates) if rates else None


def _published_rates(model: ModelInfo, *, own: bool) -> dict[str, Rates]:
    """Rates by tier. A model borrowed from another provider's list has that provider's standard tier only."""
    now = datetime.now(UTC)
    standard = _rates_of(model.get_prices(now))
    if standard is None:
        return {}
    rates = {STANDARD: standard}
    for tier, context in _TIERS.items() if own else ():
        variants = [each for each in model.price_variants or () if each.when == context]
        if any(each.constraint is None or each.constraint.active(now) for each in variants):
            rates[tier] = _rates_of(model.get_prices(now, context)) or standard
    return rates


def _rates_of(prices: ModelPrice) -> Rates | None:
    kinds = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok)
    steps = {name: _steps_of(price) for name, price in zip(_RATES, kinds, strict=True) if price is not None}
    return Rates(**steps) if "input" in steps else None


def _steps_of(price: Any) -> Steps:
    if isinstance(price, Decimal):
        return ((0, price),)
    return ((0, price.base), *((tier.start, tier.price) for tier in price.tiers))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
