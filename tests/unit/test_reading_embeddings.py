"""Vectors match texts, or the reply is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.llm import embed
from corpusmill.llm.embed import Vectors
from corpusmill.llm.errors import CallError
from corpusmill.llm.usage import Tokens
from corpusmill.spec import EMBEDDINGS_PATH, JobSpec

USAGE = {"prompt_tokens": 9, "total_tokens": 9}


def vectors(count: int, width: int, seed: int = 1) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def coded(row: Vectors) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def reply(data: Any, usage: Any = USAGE) -> bytes:
    return orjson.dumps({"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage})


def rows(made: Vectors, order: list[int] | None = None) -> list[dict[str, Any]]:
    return [{"index": i, "embedding": coded(made[i])} for i in order or range(len(made))]


def failure(body: bytes, count: int = 3, dimensions: int | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        embed.parse(body, count, dimensions)
    return caught.value


def test_the_request_asks_for_base64_and_names_dimensions_only_when_set() -> None:
    spec = JobSpec("embedding", EMBEDDINGS_PATH, "text-embedding-3-small", "https://api.openai.com/v1")
    expected = {"model": "text-embedding-3-small", "input": ["a", "ß"], "encoding_format": "base64"}
    assert orjson.loads(embed.body(spec, ["a", "ß"])) == expected
    short = JobSpec("embedding", EMBEDDINGS_PATH, "text-embedding-3-small", "https://x", dimensions=8)
    assert orjson.loads(embed.body(short, ["a"]))["dimensions"] == 8


@given(st.integers(1, 40), st.integers(1, 16), st.randoms(use_true_random=False))
def test_rows_come_back_in_the_order_of_the_texts_whatever_the_order_of_the_reply(
    count: int, width: int, dice: Any
) -> None:
    made = vectors(count, width)
    order = list(range(count))
    dice.shuffle(order)
    found = embed.parse(reply(rows(made, order)), count, width)
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, made)
    assert (found.model, found.tokens) == ("text-embedding-3-small", Tokens(prompt=9))


def test_lists_of_numbers_are_read_where_base64_is_not_spoken() -> None:
    made = vectors(3, 4)
    data = [{"index": i, "embedding": made[i].tolist()} for i in (2, 0, 1)]
    assert np.allclose(embed.parse(reply(data), 3, None).vectors, made)


def test_base64_is_read_however_the_reply_is_laid_out() -> None:
    made = vectors(3, 400)
    data: dict[str, Any] = {"data": rows(made), "model": "m", "usage": USAGE}
    compact = orjson.dumps(data)
    layouts = [
        json.dumps(data, indent=2).encode(),  # as OpenAI writes it
        compact.replace(b"/", b"\\/"),  # as PHP does
        orjson.dumps({**data, "data": [{**row, "embedding": broken(row["embedding"])} for row in data["data"]]}),
        orjson.dumps({**data, "data": [{**row, "text": '"embedding":"'} for row in data["data"]]}),
        orjson.dumps({**data, "first": {"embedding": "AAAA"}}),
        compact.replace(b'"embedding"', b'"\\u0065mbedding"'),
    ]
    for body in layouts:
        assert np.array_equal(embed.parse(body, 3, 400).vectors, made), body[:80]


def broken(text: str) -> str:
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


@given(st.data())
def test_a_reply_cut_or_changed_anywhere_is_read_as_it_was_or_refused(data: st.DataObject) -> None:
    body = bytearray(reply(rows(GOOD)))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(at + 1, len(body))) :]
    try:
        found = embed.parse(bytes(body), 3, None)
    except CallError as error:
        assert error.failure_class == "bad_reply"
    else:
        assert found.vectors.shape == GOOD.shape


def test_without_any_index_the_order_of_the_reply_counts() -> None:
    made = vectors(3, 4)
    assert np.array_equal(embed.parse(reply([{"embedding": coded(row)} for row in made]), 3, None).vectors, made)


NAN = vectors(3, 4)
NAN[1, 2] = np.nan
ZERO = vectors(3, 4)
ZERO[2] = 0
GOOD = vectors(3, 4)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (reply(rows(vectors(2, 4))), "2 vectors for 3 texts"),
        (reply(rows(vectors(4, 4))), "4 vectors for 3 texts"),
        (reply([]), "0 vectors for 3 texts"),
        (reply(None), "no vectors"),
        (reply([1, 2, 3]), "no vectors"),
        (reply(rows(GOOD, [0, 1, 1])), "numbers do not match"),
        (reply([{"index": i + 1, "embedding": coded(GOOD[i])} for i in range(3)]), "numbers do not match"),
        (reply([{"index": i or None, "embedding": coded(GOOD[i])} for i in range(3)]), "numbers do not match"),
        (reply([{"index": bool(i), "embedding": coded(GOOD[i])} for i in range(3)]), "numbers do not match"),
        (reply(rows(NAN)), "not finite"),
        (reply(rows(ZERO)), "zeros"),
        (reply([{"index": i, "embedding": "????"} for i in range(3)]), "cannot be read"),
        (reply([{"index": i, "embedding": ""} for i in range(3)]), "cannot be read"),
        (reply([{"index": i, "embedding": "ä"} for i in range(3)]), "cannot be read"),
        (reply([{"index": i, "embedding": None} for i in range(3)]), "unlike length"),
        (reply([{"index": i, "embedding": [1.0] * (i + 1)} for i in range(3)]), "cannot be read"),
        (reply([{"index": i, "embedding": [1.0, "x"]} for i in range(3)]), "cannot be read"),
        (reply(rows(GOOD), usage=None), "no usage"),
        (b"<html>", "not JSON"),
    ],
)
def test_a_reply_that_does_not_fit_the_texts_is_a_typed_failure(body: bytes, detail: str) -> None:
    found = failure(body)
    assert (found.failure_class, found.outcome) == ("bad_reply", "paid")
    assert detail in found.message


def test_rows_of_unlike_length_are_refused() -> None:
    data = [{"index": 0, "embedding": coded(GOOD[0])}, {"index": 1, "embedding": coded(GOOD[1][:2])}]
    assert "cannot be read" in failure(reply(data), 2).message


def test_another_length_than_asked_for_is_refused_and_says_what_it_cost() -> None:
    found = failure(reply(rows(GOOD)), dimensions=8)
    assert "vectors of 4 instead of 8" in found.message
    assert found.billed is not None
    assert found.billed.tokens.prompt == 9


def test_numbers_too_large_for_float32_are_refused() -> None:
    data = [{"index": 0, "embedding": [1e300, 1.0]}]
    assert "not finite" in failure(reply(data), 1).message
