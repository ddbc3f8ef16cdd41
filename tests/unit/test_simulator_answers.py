"""What the simulator answers: determined by the request, of OpenAI's shape, spoilt only on demand."""

from __future__ import annotations

from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from corpusmill.simulator.answers import answer
from corpusmill.simulator.asks import ask_for_completion, ask_for_embedding
from corpusmill.simulator.embeddings import digest, vectors
from corpusmill.simulator.errors import Refused
from corpusmill.simulator.schema import example

USER = [{"role": "user", "content": "Summarise:\n\nThe quick brown fox jumps over the lazy dog."}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    },
    {"type": "function", "function": {"name": "stop"}},
]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["a", "b"]},
        "always": {"const": 3},
        "when": {"type": "string", "format": "date"},
        "scores": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "minItems": 2},
        "count": {"type": "integer", "minimum": 7, "multipleOf": 5},
        "maybe": {"type": ["string", "null"]},
        "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "tree": {"$ref": "#/$defs/node"},
    },
    "required": ["title", "kind", "always", "when", "scores", "count", "maybe", "either", "tree"],
    "additionalProperties": False,
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 3},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "next", "children"],
            "additionalProperties": False,
        }
    },
}


def chat(fault: str | None = None, **body: Any) -> dict[str, Any]:
    ask = ask_for_completion("key", "gpt-6-luna", {"model": "gpt-6-luna", "messages": USER, **body})
    found: dict[str, Any] = orjson.loads(answer(ask, dimensions=8, fault=fault).body)
    return found


def embed(value: Any, fault: str | None = None, **body: Any) -> dict[str, Any]:
    ask = ask_for_embedding("key", "m", {"model": "m", "input": value, **body})
    found: dict[str, Any] = orjson.loads(answer(ask, dimensions=8, fault=fault).body)
    return found


def rows(reply: dict[str, Any]) -> NDArray[np.float32]:
    ordered = sorted(reply["data"], key=lambda one: one["index"])
    return np.array([one["embedding"] for one in ordered], dtype=np.float32)


def test_the_same_request_has_the_same_answer_byte_for_byte() -> None:
    assert chat(temperature=0, seed=1) == chat(seed=1, temperature=0)
    assert chat()["choices"] != chat(temperature=0)["choices"]


def test_an_answer_is_about_the_text_and_not_the_instruction() -> None:
    content = chat()["choices"][0]["message"]["content"]
    assert content.startswith("Simulated answer ")
    assert content.endswith(": The quick brown fox jumps over the lazy dog.")


def test_usage_counts_four_characters_a_token() -> None:
    reply = chat()
    content = reply["choices"][0]["message"]["content"]
    assert reply["usage"]["prompt_tokens"] == -(-len(USER[0]["content"]) // 4)
    assert reply["usage"]["completion_tokens"] == -(-len(content) // 4)
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_output_cap_cuts_the_answer(name: str) -> None:
    caps: dict[str, Any] = {name: 5}
    reply = chat(**caps)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5


def test_reasoning_counts_as_output_and_against_the_cap() -> None:
    reply = chat(reasoning_effort="medium", max_completion_tokens=70)
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 64
    assert reply["usage"]["completion_tokens"] == 70
    assert len(reply["choices"][0]["message"]["content"]) == 24


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "default"), ("auto", "default"), ("flex", "flex"), ("fast", "priority")]
)
def test_the_tier_served_is_told(asked: str | None, served: str) -> None:
    assert chat(service_tier=asked)["service_tier"] == served


def test_every_choice_is_given_and_billed() -> None:
    one, three = chat(), chat(n=3, logprobs=True)
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    tokens = three["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == three["choices"][0]["message"]["content"]


def test_json_objects_are_json() -> None:
    content = chat(response_format={"type": "json_object"})["choices"][0]["message"]["content"]
    assert "quick brown fox" in orjson.loads(content)["answer"]


def test_structured_outputs_satisfy_their_schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "page", "strict": True, "schema": SCHEMA}}
    content = chat(response_format=form)["choices"][0]["message"]["content"]
    jsonschema.validate(orjson.loads(content), SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "exclusiveMinimum": 4},
        {"type": "integer", "maximum": -3},
        {"type": "number", "minimum": 0.5, "exclusiveMaximum": 0.6},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "string", "minLength": 40, "maxLength": 41},
        {"type": "array", "items": {"type": "null"}, "maxItems": 0},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}]},
        {"oneOf": [{"const": "x"}, {"type": "number"}]},
        True,
        {},
    ],
)
def test_bounds_in_a_schema_are_kept(schema: Any) -> None:
    jsonschema.validate(example(schema, "some words"), schema)


def test_tools_are_called_with_arguments_that_fit() -> None:
    choice = chat(tools=TOOLS)["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "look_up"
    assert "word" in orjson.loads(call["function"]["arguments"])


def test_a_chosen_tool_is_the_one_called_and_none_means_text() -> None:
    chosen = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "stop"}})
    assert chosen["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "stop"
    assert chat(tools=TOOLS, tool_choice="none")["choices"][0]["message"]["content"]
    answered = [*USER, {"role": "tool", "tool_call_id": "c", "content": "found"}]
    assert chat(tools=TOOLS, messages=answered)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": None},
        {"messages": ["hello"]},
        {"messages": [{"role": "pirate", "content": "x"}]},
        {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"max_tokens": -1},
        {"max_completion_tokens": "5"},
        {"n": 0},
        {"n": 1000},
    ],
)
def test_a_malformed_chat_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        chat(**body)
    assert refused.value.status == 400


def test_content_in_parts_counts_its_texts() -> None:
    parts = [{"type": "text", "text": "12345678"}, {"type": "image_url", "image_url": {"url": "data:…"}}]
    assert chat(messages=[{"role": "user", "content": parts}])["usage"]["prompt_tokens"] == 2


def test_a_chat_is_charged_the_larger_of_cap_and_characters() -> None:
    body = {"messages": [{"role": "user", "content": "x" * 400}]}
    assert ask_for_completion("k", "m", body).charge() == 100
    assert ask_for_completion("k", "m", {**body, "max_tokens": 99}).charge() == 100
    assert ask_for_completion("k", "m", {**body, "max_tokens": 101}).charge() == 101


def test_a_pack_is_charged_its_characters_together() -> None:
    assert ask_for_embedding("k", "m", {"input": ["a"] * 10}).charge() == 2.5
    assert ask_for_embedding("k", "m", {"input": [[1, 2, 3], [4]]}).charge() == 4


def test_vectors_have_unit_length_and_depend_on_the_text_alone() -> None:
    together, alone = rows(embed(["a", "b", "c"])), rows(embed("b"))
    assert together.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(together[1], alone[0])
    assert not np.array_equal(together[0], together[1])
    np.testing.assert_array_equal(vectors([digest("m", "b")], 8), alone)


def test_fewer_dimensions_are_the_first_ones_normalised_again() -> None:
    long, short = vectors([digest("m", "a")], 1536)[0], vectors([digest("m", "a")], 8)[0]
    np.testing.assert_allclose(short, long[:8] / np.linalg.norm(long[:8]), rtol=1e-5)
    assert rows(embed("a", dimensions=3)).shape == (1, 3)


def test_base64_holds_the_same_float32_as_the_numbers() -> None:
    from base64 import b64decode

    coded = embed(["a", "b"], encoding_format="base64")["data"]
    raw = np.stack([np.frombuffer(b64decode(one["embedding"]), dtype="<f4") for one in coded])
    np.testing.assert_array_equal(raw, rows(embed(["a", "b"])))


def test_token_arrays_are_inputs_and_count_their_tokens() -> None:
    assert len(embed([1, 2, 3])["data"]) == 1
    two = embed([[1, 2, 3], [4]])
    assert len(two["data"]) == 2
    assert two["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize("value", [None, "", [], [""], ["a", ""], [[]], [["a"]], [1.5], ["a"] * 2049, 7, {"a": 1}])
def test_malformed_inputs_are_refused(value: Any) -> None:
    with pytest.raises(Refused) as refused:
        embed(value)
    assert refused.value.status == 400


def test_an_input_over_8192_tokens_is_refused_by_exact_count() -> None:
    assert embed("word " * 8191)["data"]
    for value in ("word " * 9000, list(range(8193))):
        with pytest.raises(Refused) as refused:
            embed(value)
        assert orjson.loads(refused.value.body)["error"]["code"] == "context_length_exceeded"


def test_a_pack_far_over_300000_tokens_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        embed([[1] * 8000] * 60)
    assert orjson.loads(refused.value.body)["error"]["code"] == "max_tokens_per_request"


@pytest.mark.parametrize("dimensions", [0, -1, "8", 1.5])
def test_dimensions_that_cannot_be_are_refused(dimensions: Any) -> None:
    with pytest.raises(Refused):
        embed("a", dimensions=dimensions)


def test_spoilt_completions_are_spoilt_as_asked() -> None:
    def choice(kind: str) -> dict[str, Any]:
        found: dict[str, Any] = chat(kind)["choices"][0]
        return found

    assert chat("no_choices")["choices"] == []
    assert "usage" not in chat("no_usage")
    assert choice("empty")["message"]["content"] == ""
    assert choice("length")["finish_reason"] == "length"
    assert choice("length")["message"]["content"]
    assert choice("content_filter")["finish_reason"] == "content_filter"
    assert choice("refusal")["message"]["refusal"]
    assert choice("refusal")["message"]["content"] is None
    with pytest.raises(orjson.JSONDecodeError):
        chat("bad_json")


def test_spoilt_embeddings_are_spoilt_as_asked() -> None:
    whole = embed(["a", "b", "c"])
    assert embed(["a", "b", "c"], "empty")["data"] == []
    assert "usage" not in embed("a", "no_usage")
    assert len(embed(["a", "b", "c"], "short_data")["data"]) == 2
    assert embed("a", "short_data")["data"] == []
    assert sorted(len(one["embedding"]) for one in embed(["a", "b", "c"], "wrong_dim")["data"]) == [7, 8, 8]
    assert np.isnan(rows(embed(["a", "b", "c"], "nan"))).sum() == 1
    shuffled = embed(["a", "b", "c"], "shuffled")
    assert [one["index"] for one in shuffled["data"]] == [2, 1, 0]
    np.testing.assert_array_equal(rows(shuffled), rows(whole))
