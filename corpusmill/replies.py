"""What an endpoint's raw reply says, read the same way when it arrives and when it is exported.

A leaf: the client validates with it, exports print with it, and neither imports the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson


def loads(body: bytes) -> Any:
    """The JSON value in `body`.

    An answer that was cut in the middle of an emoji holds half of a surrogate pair, which strict parsers refuse
    although it was paid for: such a half becomes U+FFFD.

    Raises:
        ValueError: this is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _mended(json.loads(body.decode("utf-8")))


def _mended(value: Any) -> Any:
    """`value` with every lone surrogate replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(each) for each in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    return value


def output_of(body: bytes) -> str:
    """The text that a stored reply answers with; tool calls as JSON; empty where the reply has neither.

    Understands chat completions, plain completions and responses.
    """
    reply = loads(body)
    return text_in(reply) or tool_calls_in(reply) or ""


def text_in(reply: Any) -> str | None:
    """The answer's text, or None where the reply holds none."""
    choice = first_choice(reply)
    if choice is not None:
        message = choice.get("message")
        return _text(message.get("content")) if isinstance(message, dict) else _text(choice.get("text"))
    if isinstance(reply, dict) and isinstance(reply.get("output"), list):
        return _response_text(reply["output"])
    return None


def reasoning_in(reply: Any) -> str | None:
    """What the model thought before it answered, where a chat completion tells it."""
    message = (first_choice(reply) or {}).get("message")
    return _text(message.get("reasoning_content")) if isinstance(message, dict) else None


def tool_calls_in(reply: Any) -> str | None:
    """The tool calls of the answer as JSON, or None where it makes none."""
    choice = first_choice(reply)
    if choice is not None:
        message = choice.get("message")
        calls = (message.get("tool_calls") or message.get("function_call")) if isinstance(message, dict) else None
    elif isinstance(reply, dict) and isinstance(reply.get("output"), list):
        calls = [part for part in reply["output"] if isinstance(part, dict) and part.get("type") == "function_call"]
    else:
        calls = None
    return orjson.dumps(calls).decode() if calls else None


def first_choice(reply: Any) -> Mapping[str, Any] | None:
    """The first of the choices, or None where there is none."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(content: Any) -> str | None:
    """A message's content: a string, or parts of which those of type text count."""
    if isinstance(content, list):
        texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def _response_text(output: list[Any]) -> str | None:
    """The text of a reply of the responses API: its message parts, joined."""
    texts = [_text(part.get("content")) for part in output if isinstance(part, dict) and part.get("type") == "message"]
    found = [text for text in texts if text is not None]
    return "".join(found) if found else None
