"""Counts equal tiktoken's own, and no text breaks them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from corpusmill import tokens
from corpusmill.errors import CorpusmillError
from corpusmill.tokens import Encoding, encoding, encoding_for

NAMES = ("o200k_base", "cl100k_base")

any_text = st.text(max_size=300) | st.text(alphabet=" \t\n\r.,'aA1é字。\u0301😀</|>", max_size=300)


@pytest.mark.parametrize("name", NAMES)
def test_the_splitting_patterns_are_tiktokens_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_args, **_more: {})
    assert getattr(openai_public, name)()["pat_str"] == tokens._PATTERNS[name]


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "hello world", 2),
        ("o200k_base", "tiktoken is great!", 6),
        ("cl100k_base", "tiktoken is great!", 6),
        ("cl100k_base", "お誕生日おめでとう", 9),
        ("o200k_base", "お誕生日おめでとう", 8),
        ("o200k_base", "", 0),
    ],
)
def test_counts_are_those_that_openai_publishes(name: str, text: str, count: int) -> None:
    assert encoding(name).count(text) == count


@given(any_text)
def test_a_count_is_the_number_of_tokens(text: str) -> None:
    assert encoding().count(text) == len(encoding().encode(text))


@pytest.mark.parametrize("name", NAMES)
@given(text=any_text)
def test_counting_in_blocks_gives_the_count_of_the_whole(name: str, text: str) -> None:
    long = text * 40 + "the end of a block of words " * 30
    whole = len(tokens._tiktoken(name).encode_ordinary(long))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_BLOCK", 700)
        patch.setattr(tokens, "_SEAM_WITHIN", 600)
        blocks = list(tokens._blocks(long))
        seamless = [block for block in blocks[:-1] if len(block) == 700]
        counted = encoding(name).count(long)
    assert "".join(blocks) == long
    # A block without a seam in it may count a few tokens otherwise; one with a seam never.
    assert counted == whole or seamless


def test_a_real_text_in_many_blocks_counts_as_it_does_whole() -> None:
    text = (
        "One sentence with some words in it; and then, 42 more!\n\n人工智能是计算机科学的一个分支，它企图了解智能。 "  # noqa: RUF001
        * 4_000
    )
    assert encoding().count(text) == len(tokens._tiktoken("o200k_base").encode_ordinary(text))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000,
        "A" * 1_000_000,
        "a" * 20_000,
        "\n" * 500_000,
        "<|endoftext|>" * 100,
        "\ud800",
        "\0" * 1000,
        "\u2028",
    ],
    ids=["spaces", "capitals", "aaa", "lines", "special", "surrogate", "nul", "u2028"],
)
def test_no_text_breaks_the_count_or_the_cut(name: str, text: str) -> None:
    assert 0 < encoding(name).count(text) <= 4 * len(text)
    assert encoding(name).count(encoding(name).truncate(text, 10)) <= 10


def test_a_special_token_in_a_text_counts_as_the_text_that_it_is() -> None:
    assert encoding().count("<|endoftext|>") > 1


@given(any_text, st.integers(0, 40))
def test_a_truncated_text_is_the_start_of_the_text_within_the_limit(text: str, limit: int) -> None:
    cut = encoding().truncate(text, limit)
    assert text.startswith(cut)
    assert encoding().count(cut) <= limit
    assert cut == text or encoding().count(text) > limit


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("openai/text-embedding-3-large", "cl100k_base"),
        ("ft:gpt-4o-mini:acme::x", "o200k_base"),
        ("a-model-nobody-knows", "o200k_base"),
        ("text-davinci-003", "o200k_base"),
    ],
)
def test_a_model_has_its_encoding_and_an_unknown_one_the_newest(model: str, name: str) -> None:
    assert encoding_for(model).name == name


def test_damaged_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokens._RANKS_SHA256, "o200k_base", "0" * 64)
    with pytest.raises(CorpusmillError, match="damaged"):
        tokens._ranks("o200k_base")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="no ranks for p50k_base"):
        encoding("p50k_base")


def test_an_encoding_shows_its_name() -> None:
    assert repr(Encoding("o200k_base")) == "Encoding('o200k_base')"


def test_counting_needs_neither_a_network_nor_numpy() -> None:
    program = (
        "import socket, sys; socket.socket = None\n"
        "from corpusmill.tokens import encoding_for\n"
        "print(encoding_for('gpt-4o').count('hello world'), 'numpy' in sys.modules, 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False", "False"]
