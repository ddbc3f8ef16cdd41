"""Chat completions: an answer that follows from the request alone, byte for byte.

The text names the request's digest and the first words that it is about. A tool is called when there are tools, JSON
is given when JSON is asked for, and the output cap cuts the answer off with `length`, as it does elsewhere.
"""

from __future__ import annotations

from typing import Any

import orjson

from corpusmill.simulator.asks import Ask, tokens_of
from corpusmill.simulator.knowledge import knowledge
from corpusmill.simulator.schema import example

# Not the time of day: the same request has the same answer, byte for byte.
CREATED = 1_767_225_600
REFUSAL = "I'm sorry, I can't help with that."
REASONING = "The user asks, and I think about it."
_REASONING_TOKENS = {"low": 16, "medium": 64, "high": 256, "xhigh": 512, "max": 1024}
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority", "scale": "scale"}
_SUBJECT_CHARACTERS = 120


def completion(ask: Ask, fault: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer as a `chat.completion` object, and its usage; `fault` is one of the kinds that spoil a completion.

    Under the fault `no_usage` the usage is billed and not in the answer.
    """
    reasoning = _REASONING_TOKENS.get(ask.body.get("reasoning_effort") or "", 0)
    reasoning = min(reasoning, ask.max_output or reasoning)
    message, finish = _message(ask, None if ask.max_output is None else (ask.max_output - reasoning) * 4)
    message, finish = _spoiled(message, finish, fault)
    written = _written_tokens(message) + reasoning
    usage = _usage(ask.prompt_tokens, written * _count(ask), reasoning * _count(ask))
    answer = {
        "id": f"chatcmpl-{ask.digest.hex()[:24]}",
        "object": "chat.completion",
        "created": CREATED,
        "model": ask.model,
        "choices": [] if fault == "no_choices" else _choices(ask, message, finish),
        "usage": usage,
        "service_tier": _TIERS.get(ask.body.get("service_tier") or "", "default"),
        "system_fingerprint": "fp_simulator",
    }
    if fault == "no_usage":
        del answer["usage"]
    return answer, usage


def _message(ask: Ask, room: int | None) -> tuple[dict[str, Any], str]:
    """The message and its finish reason; `room`: characters that the output cap leaves."""
    called = _called_tool(ask)
    if called is not None:
        arguments = orjson.dumps(example(called.get("parameters") or {"type": "object"}, _subject(ask))).decode()
        call = {
            "id": f"call_{ask.digest.hex()[:24]}",
            "type": "function",
            "function": {"name": called.get("name"), "arguments": arguments},
        }
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}, "tool_calls"
    text = _text(ask)
    finish = "stop"
    if room is not None and len(text) > room:
        text, finish = text[:room], "length"
    return {"role": "assistant", "content": text, "refusal": None}, finish


def _called_tool(ask: Ask) -> dict[str, Any] | None:
    """The function to call: the one chosen, else the first; none once a tool's result has come back."""
    tools, choice = ask.body.get("tools"), ask.body.get("tool_choice")
    if not tools or choice == "none" or ask.body["messages"][-1].get("role") == "tool":
        return None
    functions: list[dict[str, Any]] = [tool.get("function") or {} for tool in tools if isinstance(tool, dict)]
    wanted = choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None
    return next((function for function in functions if wanted in (None, function.get("name"))), None)


def _text(ask: Ask) -> str:
    known = knowledge(ask.body["messages"])
    if known is not None:
        return known
    form = ask.body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        return orjson.dumps({"answer": _subject(ask), "request": ask.digest.hex()[:8]}).decode()
    if kind == "json_schema" and isinstance(form, dict):
        return orjson.dumps(example(form.get("json_schema", {}).get("schema"), _subject(ask))).decode()
    return f"Simulated answer {ask.digest.hex()[:8]}: {_subject(ask)}"


def _subject(ask: Ask) -> str:
    """The first words of what the request is about: in the last text, after the instruction if there is one."""
    last = ask.texts[-1] if ask.texts else ""
    instruction, blank, about = last.partition("\n\n")
    return " ".join((about if blank else instruction)[:_SUBJECT_CHARACTERS].split()[:12]) or "nothing"


def _spoiled(message: dict[str, Any], finish: str, fault: str | None) -> tuple[dict[str, Any], str]:
    if fault == "empty":
        return {**message, "content": ""}, "stop"
    if fault == "length":
        content = message["content"] or ""
        return {**message, "content": content[: max(1, len(content) // 2)]}, "length"
    if fault == "content_filter":
        return {**message, "content": ""}, "content_filter"
    if fault == "refusal":
        return {**message, "content": None, "refusal": REFUSAL}, "stop"
    if fault in ("reasoning", "no_room"):
        return {**message, "content": "", "reasoning_content": REASONING}, "stop" if fault == "reasoning" else "length"
    if fault == "thinking":
        return {**message, "reasoning_content": REASONING}, finish
    return message, finish


def _choices(ask: Ask, message: dict[str, Any], finish: str) -> list[dict[str, Any]]:
    logprobs = _logprobs(message["content"] or "") if ask.body.get("logprobs") else None
    return [
        {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}
        for index in range(_count(ask))
    ]


def _logprobs(text: str) -> dict[str, Any]:
    tokens = [text[i : i + 4] for i in range(0, len(text), 4)]
    content = [{"token": t, "logprob": -0.1, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]
    return {"content": content, "refusal": None}


def _count(ask: Ask) -> Any:
    return ask.body.get("n") or 1


def _written_tokens(message: dict[str, Any]) -> int:
    calls = sum(len(call["function"]["arguments"]) for call in message.get("tool_calls", ()))
    return tokens_of(len(message["content"] or message["refusal"] or "") + calls)


def _usage(prompt: int, written: int, reasoning: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
