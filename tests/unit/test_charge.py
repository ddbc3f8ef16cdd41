"""What a request is charged before it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.endpoint import Formula
from corpusmill.limits import charge, facts_of


def test_openai_charges_the_larger_of_output_cap_and_a_quarter_of_the_characters() -> None:
    assert charge("openai", max_output=500, chars=400) == 500
    assert charge("openai", max_output=50, chars=401) == 101
    assert charge("openai", max_output=None, chars=400) == 100


def test_azure_charges_their_sum() -> None:
    assert charge("azure", max_output=500, chars=400) == 600


def test_a_provider_may_have_figures_of_its_own() -> None:
    assert charge(Formula(characters=0.5), max_output=100, chars=401) == 301
    assert charge(Formula(max_output=0, request=10), max_output=100, chars=40) == 20
    assert charge(Formula(combine="max", max_output=2), max_output=100, chars=40) == 200


def test_nothing_is_free() -> None:
    assert charge("openai", max_output=None, chars=0) == 1
    assert charge(Formula(characters=0, max_output=0), max_output=9, chars=9) == 1


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ({"messages": [{"role": "user", "content": "abcd"}, {"role": "system", "content": "ef"}]}, (None, 6)),
        ({"messages": [{"content": [{"type": "text", "text": "abc"}, {"type": "image_url"}]}]}, (None, 3)),
        ({"messages": [], "max_completion_tokens": 7}, (7, 0)),
        ({"messages": [], "max_tokens": 9}, (9, 0)),
        ({"input": "abc"}, (None, 3)),
        ({"input": ["abc", "de"]}, (None, 5)),
        ({"input": [1, 2, 3]}, (None, 12)),
        ({"input": [[1, 2], [3]]}, (None, 12)),
        ({"messages": "no list", "input": None, "max_tokens": "many"}, (None, 0)),
    ],
)
def test_cap_and_characters_are_found_in_a_raw_body(body: dict[str, Any], facts: tuple[int | None, int]) -> None:
    assert facts_of(body) == facts


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "max_tokens", "content"]), json))
def test_no_body_upsets_the_formula(body: dict[str, Any]) -> None:
    max_output, chars = facts_of(body)
    assert charge("openai", max_output=max_output, chars=chars) >= 1
