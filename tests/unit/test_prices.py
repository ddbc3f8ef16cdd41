"""Money is exact, follows the tier that was served, and what is not known is not guessed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpusmill.errors import SettingsError
from corpusmill.price_book import card_for
from corpusmill.prices import PICO_USD, PriceCard, Rates

OPENAI = "https://api.openai.com/v1"
MODELS = ["gpt-6-luna", "gpt-6.1-sol", "gpt-6-astra", "gpt-5.4-mini", "gpt-4o-mini"]


def published(model: str, base_url: str = OPENAI) -> PriceCard:
    card = card_for(model, base_url)
    assert card is not None
    return card


LUNA = published("gpt-6-luna")


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("gpt-6-luna", ("0.10", "0.01", "0.125", "0.50")),
        ("gpt-6.1-terra", ("1.00", "0.05", "1.25", "5.00")),
        ("gpt-6.1-sol", ("2.00", "0.10", "2.50", "10.00")),
        ("gpt-6-astra", ("10", "1.00", "12.50", "50")),
        ("gpt-5.6-luna", ("0.20", "0.02", "0.25", "1.20")),
        ("gpt-4o-mini", ("0.15", "0.075", "0.15", "0.60")),
        ("text-embedding-3-small", ("0.02", "0.02", "0.02", "0")),
        ("text-embedding-3-large", ("0.13", "0.13", "0.13", "0")),
    ],
)
def test_a_million_tokens_cost_what_the_price_list_says(model: str, rates: tuple[str, str, str, str]) -> None:
    card, k = published(model), 1000
    asked = [{}, {"cached": k}, {"cache_write": k}]
    assert [card.cost(None, prompt=k, **kind) for kind in asked] == [Decimal(rate) / k for rate in rates[:3]]
    assert card.cost(None, prompt=0, completion=k) == Decimal(rates[3]) / k


@pytest.mark.parametrize(
    ("tier", "factor"), [("flex", "0.5"), ("batch", "0.5"), ("priority", "2"), ("fast", "2"), ("default", "1")]
)
def test_each_tier_has_its_own_price(tier: str, factor: str) -> None:
    tokens: dict[str, int] = {"prompt": 1000, "cached": 300, "cache_write": 100, "completion": 50}
    standard = LUNA.cost(None, **tokens)
    assert standard is not None
    assert LUNA.cost(tier, **tokens) == standard * Decimal(factor)


@pytest.mark.parametrize("tier", [None, "", "auto", "default", "standard"])
def test_a_reply_that_names_no_special_tier_pays_the_standard_one(tier: str | None) -> None:
    assert LUNA.cost(tier, prompt=10) == LUNA.cost("default", prompt=10)


def test_a_tier_without_a_known_price_is_unpriced_and_estimated_at_the_dearest() -> None:
    assert LUNA.cost("scale", prompt=10) is None
    assert LUNA.estimate(10, 5, tier="scale") == LUNA.cost("priority", prompt=10, completion=5)


def test_a_prompt_above_272000_tokens_pays_double_for_all_of_it() -> None:
    assert LUNA.cost(None, prompt=272_000) == Decimal("0.0272")
    assert LUNA.cost(None, prompt=272_001) == Decimal("0.0544002")
    assert LUNA.cost(None, prompt=1_000_000) == Decimal("0.20")
    assert LUNA.cost(None, prompt=272_001, completion=1000) == Decimal("0.0544002") + Decimal("0.00075")


def test_an_estimate_expects_nothing_cached_and_the_whole_output() -> None:
    assert LUNA.estimate(1000, 4096) == Decimal("0.0001") + Decimal("0.002048")


@given(
    st.sampled_from(MODELS),
    st.sampled_from([None, "flex", "priority", "fast", "batch"]),
    st.integers(0, 900_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 128_000),
)
def test_costs_are_those_of_the_price_package(
    model: str, tier: str | None, prompt: int, cached: float, written: float, completion: int
) -> None:
    from genai_prices import Usage, calc_price

    assume(tier is None or tier in published(model).tiers)
    read = int(prompt * cached)
    write = int((prompt - read) * written) if model != "gpt-4o-mini" else 0
    usage: Any = Usage(input_tokens=prompt, cache_read_tokens=read, cache_write_tokens=write, output_tokens=completion)
    context = None if tier is None else {"processing" if tier == "batch" else "service_tier": tier}
    expected = calc_price(usage, model, provider_api_url=OPENAI, price_context=context).total_price
    assert published(model).cost(tier, prompt=prompt, cached=read, cache_write=write, completion=completion) == (
        expected.quantize(PICO_USD)
    )


def test_a_card_survives_the_ledger_as_json() -> None:
    assert PriceCard.from_json(json.loads(json.dumps(LUNA.as_json()))) == LUNA


def test_a_card_says_where_its_prices_come_from_and_when() -> None:
    assert LUNA.source.startswith("genai-prices ")
    assert len(LUNA.date) == len("2026-11-23")


def test_the_cheapest_call_is_not_rounded_away() -> None:
    one = LUNA.cost("flex", prompt=1, cached=1)
    assert one == Decimal("0.000000005")
    assert sum([one] * 1000, Decimal(0)) == LUNA.cost("flex", prompt=1000, cached=1000)


@pytest.mark.parametrize("model", ["gpt-6.2-astra", "my-own-model", "Qwen/Qwen3-8B"])
def test_a_model_that_nobody_priced_is_unpriced(model: str) -> None:
    assert card_for(model, OPENAI) is None
    assert card_for(model, "http://127.0.0.1:8000/v1") is None


def test_a_gateway_is_taken_to_charge_the_list_price_and_the_card_says_so() -> None:
    card = published("gpt-6-luna", "http://127.0.0.1:8901/v1")
    assert card.tiers == LUNA.tiers
    assert "list price" in card.source


def test_a_dated_model_name_has_its_family_price() -> None:
    assert published("gpt-6-luna-2026-09-01").tiers == LUNA.tiers


def test_azure_has_the_standard_price_only_for_models_borrowed_from_openais_list() -> None:
    assert set(published("gpt-6-luna", "https://res.openai.azure.com").tiers) == {"default"}


# --- the user's file ----------------------------------------------------------------------------------------------

FILE = """
[models."gpt-6-luna"]
input = 0.05
output = [[0, 0.25], [200000, 0.5]]
cached = 0.001
[models."gpt-6-luna".tiers.flex]
input = 0.02

[models."Qwen/*"]
input = 0

[models."boxed"]
base_url = "http://GPU-box:80/v1/"
input = 3
"""


@pytest.fixture
def price_file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    return path


def test_the_price_file_comes_before_the_published_prices(price_file: Path) -> None:
    card = card_for("gpt-6-luna", OPENAI, price_file)
    assert card is not None
    assert card.source == "price file prices.toml"
    assert card.tiers["default"] == Rates(
        input=((0, Decimal("0.05")),),
        output=((0, Decimal("0.25")), (200_000, Decimal("0.5"))),
        cached=((0, Decimal("0.001")),),
    )
    assert card.cost("flex", prompt=1_000_000) == Decimal("0.02")
    assert PriceCard.from_json(json.loads(json.dumps(card.as_json()))) == card


def test_a_pattern_prices_a_family_and_zero_is_a_price(price_file: Path) -> None:
    card = card_for("Qwen/Qwen3-8B", "http://127.0.0.1:8000/v1", price_file)
    assert card is not None
    assert card.cost(None, prompt=10**6, completion=10**6) == 0


def test_a_price_for_one_endpoint_holds_there_only(price_file: Path) -> None:
    assert card_for("boxed", "http://gpu-box/v1", price_file) is not None
    assert card_for("boxed", OPENAI, price_file) is None


def test_models_that_the_file_does_not_name_keep_their_published_price(price_file: Path) -> None:
    assert card_for("gpt-6-astra", OPENAI, price_file) == card_for("gpt-6-astra", OPENAI)


def test_json_is_read_exactly_as_well(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"m": {"input": 0.1, "output": 0.3}}}')
    card = card_for("m", OPENAI, path)
    assert card is not None
    assert card.cost(None, prompt=3, completion=1) == Decimal("0.0000006")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models = 3", "no table"),
        ("[models.m]\noutput = 1", "at least `input`"),
        ("[models.m]\ninput = 1\ncashed = 2", "did you mean `cached`?"),
        ("[models.m]\ninput = 'cheap'", "a price is a number"),
        ("[models.m]\ninput = -1", "no price is negative"),
        ("[models.m]\ninput = nan", "no price is negative"),
        ("[models.m]\ninput = [[5, 1]]", "ascend from 0"),
        ("[models.m]\ninput = []", "ascend from 0"),
        ("[models.m]\ninput = [[0, 1], [0, 2]]", "ascend from 0"),
        ("[models.m]\ninput = 1\n[models.m.tiers.flex]\noutput = 2", "at least `input`"),
        ("[models", "cannot be understood"),
        ("[models]\nm = 3", "table"),
    ],
)
def test_a_wrong_price_file_is_a_settings_error_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        card_for("m", OPENAI, path)
    assert told in caught.value.what
    assert str(path) in caught.value.where


def test_a_missing_price_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        card_for("m", OPENAI, tmp_path / "none.toml")
