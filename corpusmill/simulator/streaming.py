"""A completion as server-sent events: role, pieces of the answer, finish reason, usage if asked for, [DONE]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

_PIECE = 16
DONE = b"data: [DONE]\n\n"


def events(answer: dict[str, Any], *, include_usage: bool) -> list[bytes]:
    """The events of a finished completion, in order; text in pieces of 16 characters."""
    head = {key: answer[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    # With usage asked for, every chunk but the last says that it has none.
    extra: dict[str, Any] = {"usage": None} if include_usage else {}
    chunks = [{**head, "choices": [choice], **extra} for choice in _deltas(answer["choices"])]
    if include_usage and "usage" in answer:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return [b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks] + [DONE]


def _deltas(choices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for choice in choices:
        index, message = choice["index"], choice["message"]
        for delta in _pieces(message):
            yield {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}


def _pieces(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if message["content"] is not None else None, "refusal": None}
    for field in ("reasoning_content", "content", "refusal"):
        text = message.get(field) or ""
        for start in range(0, len(text), _PIECE):
            yield {field: text[start : start + _PIECE]}
    for number, call in enumerate(message.get("tool_calls", ())):
        yield {"tool_calls": [{"index": number, **call, "function": {**call["function"], "arguments": ""}}]}
        yield {"tool_calls": [{"index": number, "function": {"arguments": call["function"]["arguments"]}}]}
