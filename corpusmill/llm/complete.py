"""Read the reply to a completion: is it an answer, and what does it cost.

An HTTP 200 proves nothing: gateways send HTML pages, broken JSON, empty choices and errors under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corpusmill.llm.errors import CallError, classify, facts_of
from corpusmill.llm.usage import Billed, Tokens, billed_of
from corpusmill.replies import first_choice, loads, reasoning_in, text_in, tool_calls_in

_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer. `model` (empty if not said) and `tier` are what the endpoint says it served.

    `truncated`: the answer was cut at an output limit; it is an answer, and it is billed.
    """

    text: str
    finish_reason: str | None
    refusal: str | None
    model: str
    tier: str | None
    tokens: Tokens
    truncated: bool


def parse(body: bytes, *, reasoning_answers: bool = False) -> Completion:
    """Validate the raw reply to a chat completion, a plain completion or a response.

    `reasoning_answers`: the text of a reply that holds only reasoning is that.

    Raises:
        CallError: `bad_reply` when it is not such a reply or states no usage, `empty_reply`, `no_room`, `refusal` or
            `content_filter` when it holds no answer, another class when it is an error in disguise. With `billed`
            where the reply says what it cost.
    """
    reply = reply_object(body)
    finish_reason = _finish_reason(reply)
    text, calls = text_in(reply), tool_calls_in(reply)
    if reasoning_answers and not (text and text.strip()):
        text = reasoning_in(reply)
    if finish_reason is None and text is None and calls is None and not _has_answer_place(reply):
        raise CallError("bad_reply", detail="no choices", billed=billed_of(reply))
    billed = billed_or_refused(reply)
    truncated = finish_reason in _CUT
    _must_be_an_answer(reply, billed, text=text, calls=calls, finish_reason=finish_reason, truncated=truncated)
    return Completion(
        text=text or calls or "",
        finish_reason=finish_reason,
        refusal=None,
        model=billed.model,
        tier=billed.tier,
        tokens=billed.tokens,
        truncated=truncated,
    )


def reply_object(body: bytes) -> Mapping[str, Any]:
    """The reply as an object.

    Raises:
        CallError: it is not JSON, not an object, or an error that came with a status of success.
    """
    try:
        reply = loads(body)
    except (ValueError, RecursionError):
        raise CallError("bad_reply", detail="not JSON") from None
    if not isinstance(reply, dict):
        raise CallError("bad_reply", detail="not a JSON object")
    if reply.get("error"):
        raise _disguised(body)
    return reply


def billed_or_refused(reply: Mapping[str, Any]) -> Billed:
    """What the reply is billed as.

    Raises:
        CallError: it states no usage, so what it cost cannot be told.
    """
    billed = billed_of(reply)
    if billed is None:
        raise CallError("bad_reply", detail="no usage")
    return billed


def _disguised(body: bytes) -> CallError:
    """An error under a status of success, as routers send it when their upstream fails."""
    facts = facts_of(body)
    status = int(facts.code) if facts.code and facts.code.isdecimal() and 400 <= int(facts.code) < 600 else 502
    return CallError(classify(status, facts), code=facts.code or facts.type, status=status)


def _has_answer_place(reply: Mapping[str, Any]) -> bool:
    return first_choice(reply) is not None or bool(reply.get("output"))


def _finish_reason(reply: Mapping[str, Any]) -> str | None:
    choice = first_choice(reply)
    if choice is not None:
        reason = choice.get("finish_reason")
    else:
        details = reply.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else reply.get("status")
    return reason if isinstance(reason, str) else None


def _must_be_an_answer(
    reply: Mapping[str, Any],
    billed: Billed,
    *,
    text: str | None,
    calls: str | None,
    finish_reason: str | None,
    truncated: bool,
) -> None:
    """Raise for a reply that was paid for and does not answer."""
    if _refused(reply):
        raise CallError("refusal", billed=billed)
    if finish_reason == "content_filter":
        raise CallError("content_filter", billed=billed)
    if calls is None and not (text and text.strip()):
        raise CallError("no_room" if truncated else "empty_reply", billed=billed)


def _refused(reply: Mapping[str, Any]) -> bool:
    choice = first_choice(reply)
    if choice is not None:
        message = choice.get("message")
        return isinstance(message, dict) and bool(message.get("refusal"))
    output = reply.get("output")
    parts = [part.get("content") for part in output if isinstance(part, dict)] if isinstance(output, list) else []
    return any(
        isinstance(piece, dict) and piece.get("type") == "refusal"
        for part in parts
        if isinstance(part, list)
        for piece in part
    )
