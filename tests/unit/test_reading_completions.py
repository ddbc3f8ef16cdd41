"""Which replies to a completion are answers, which were paid for in vain, and what they cost."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from corpusmill.llm.complete import parse
from corpusmill.llm.errors import CallError
from corpusmill.llm.usage import Tokens

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def reply(
    content: Any = "an answer", finish_reason: str | None = "stop", usage: Any = USAGE, **message: Any
) -> dict[str, Any]:
    choice = {"finish_reason": finish_reason, "message": {"role": "assistant", "content": content, **message}}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-6-luna-2026-09-01",
        "service_tier": "flex",
        "choices": [choice],
        "usage": usage,
    }


def failure(body: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        parse(body if isinstance(body, bytes) else orjson.dumps(body))
    return caught.value


def test_an_answer_is_read_with_what_was_really_served() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    answer = parse(orjson.dumps(reply(usage=usage)))
    assert (answer.text, answer.finish_reason, answer.truncated) == ("an answer", "stop", False)
    assert (answer.model, answer.tier) == ("gpt-6-luna-2026-09-01", "flex")
    assert answer.tokens == Tokens(prompt=100, cached=60, cache_write=20, completion=50, reasoning=30)


def test_an_answer_at_the_output_limit_is_an_answer_and_said_to_be_cut() -> None:
    assert parse(orjson.dumps(reply(finish_reason="length"))).truncated


def test_tool_calls_without_text_are_an_answer() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert '"f"' in parse(orjson.dumps(reply(None, "tool_calls", tool_calls=calls))).text


def test_null_details_and_unknown_counts_are_zero() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None, "cached_tokens": -1}
    assert parse(orjson.dumps(reply(usage=usage))).tokens == Tokens(prompt=5)


def test_a_plain_completion_and_a_response_are_read() -> None:
    plain = {"model": "m", "choices": [{"text": "plain", "finish_reason": "length"}], "usage": USAGE}
    assert (parse(orjson.dumps(plain)).text, parse(orjson.dumps(plain)).truncated) == ("plain", True)
    response = {
        "model": "m",
        "error": None,
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "half"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}},
    }
    answer = parse(orjson.dumps(response))
    assert (answer.text, answer.truncated) == ("half", True)
    assert answer.tokens == Tokens(prompt=3, completion=4, reasoning=2)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"<html>welcome</html>", "not JSON"),
        (b'{"choices":[{"mess', "not JSON"),
        (b"", "not JSON"),
        (b'"text"', "not a JSON object"),
        (b"[]", "not a JSON object"),
        ({"choices": [], "usage": USAGE}, "no choices"),
        ({"choices": [7], "usage": USAGE}, "no choices"),
        ({}, "no choices"),
        (reply(usage=None), "no usage"),
        (reply(usage={"prompt_tokens": "eleven"}), "no usage"),
    ],
)
def test_a_reply_that_is_none_is_a_typed_failure_that_may_have_been_paid(body: Any, detail: str) -> None:
    found = failure(body)
    assert (found.failure_class, found.outcome, found.action) == ("bad_reply", "paid", "retry")
    assert detail in found.message


@pytest.mark.parametrize(
    ("body", "failure_class"),
    [
        (reply(""), "empty_reply"),
        (reply(None), "empty_reply"),
        (reply(" \n"), "empty_reply"),
        (reply([]), "empty_reply"),
        (reply("", "length"), "no_room"),
        (reply(None, "content_filter"), "content_filter"),
        (reply("half an ans", "content_filter"), "content_filter"),
        (reply(None, "stop", refusal="I will not"), "refusal"),
        (
            {"usage": USAGE, "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]},
            "refusal",
        ),
    ],
)
def test_what_was_paid_for_in_vain_says_what_it_cost(body: Any, failure_class: str) -> None:
    found = failure(body)
    assert (found.failure_class, found.outcome) == (failure_class, "paid")
    assert found.billed is not None
    assert found.billed.tokens == Tokens(prompt=11, completion=7)


@pytest.mark.parametrize(
    ("error", "failure_class"),
    [
        ({"code": 429, "message": "upstream is busy"}, "rate_limited"),
        ({"code": 402, "message": "no credits"}, "billing"),
        ({"code": "context_length_exceeded"}, "context_length"),
        ({"message": "provider returned nothing"}, "server_error"),
        ("it broke", "server_error"),
    ],
)
def test_an_error_under_status_200_is_the_error_it_is(error: Any, failure_class: str) -> None:
    assert failure({"error": error}).failure_class == failure_class


def test_no_failure_repeats_what_the_reply_says() -> None:
    canary = "the canary sentence"
    for body in (reply(None, refusal=canary), reply(canary, "content_filter"), {"error": {"message": canary}}):
        assert canary not in f"{failure(body)!r} {failure(body)}"


def test_nesting_without_end_is_a_bad_reply_too() -> None:
    assert failure(b"[" * 100_000).failure_class == "bad_reply"
