"""What a stored reply answers with."""

from __future__ import annotations

import orjson
import pytest

from corpusmill.replies import loads, output_of


def chat(**message: object) -> bytes:
    return orjson.dumps({"choices": [{"message": {"role": "assistant", **message}}]})


def test_the_output_of_a_chat_completion_is_its_text() -> None:
    assert output_of(chat(content="Grüße, 世界")) == "Grüße, 世界"


def test_content_in_parts_is_joined() -> None:
    assert output_of(chat(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"


def test_an_answer_of_tool_calls_is_shown_as_json() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert orjson.loads(output_of(chat(content=None, tool_calls=calls))) == calls


def test_plain_completions_and_responses_are_understood() -> None:
    assert output_of(b'{"choices":[{"text":"plain"}]}') == "plain"
    response = {
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": "from responses"}]},
        ]
    }
    assert output_of(orjson.dumps(response)) == "from responses"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'"x"', b'{"choices":[]}', b'{"choices":[1]}', b'{"choices":[{}]}'])
def test_a_reply_without_an_answer_has_an_empty_output(body: bytes) -> None:
    assert output_of(body) == ""


def test_an_answer_cut_inside_an_emoji_is_kept() -> None:
    assert output_of(b'{"choices":[{"message":{"content":"cut \\ud83d"}}]}') == "cut \ufffd"


def test_a_whole_surrogate_pair_beside_a_half_one_survives() -> None:
    assert loads(b'["\\ud83d\\ude00 \\udc00", {"\\ud800": 1}]') == ["\U0001f600 \ufffd", {"\ufffd": 1}]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": ', b"\xff\xfe"])
def test_what_is_not_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        loads(body)
