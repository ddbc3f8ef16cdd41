"""The text that a reply answers with, by LightRAG's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from corpusmill.lightrag.failures import InvalidResponseError, empty_and_truncated
from corpusmill.lightrag.truncated import truncated
from corpusmill.llm.usage import tokens_of
from corpusmill.replies import first_choice, loads

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class Piece(NamedTuple):
    """What one event of a stream adds to the answer, and to the model's reasoning."""

    content: str
    reasoning: str


def reply_in(body: bytes) -> Mapping[str, Any]:
    """The reply as an object.

    Raises:
        InvalidResponseError: it is none, such as a gateway's page of HTML.
    """
    try:
        reply = loads(body)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise InvalidResponseError("Invalid response from OpenAI API: not a JSON object")
    return reply


def text_in(reply: Mapping[str, Any], *, enable_cot: bool) -> str:
    r"""The answer, with `\uXXXX` written out, and as a `TruncatedResponse` where the output limit cut it.

    With `enable_cot` a reply that holds only reasoning answers `<think>reasoning</think>`.

    Raises:
        InvalidResponseError: the reply holds no message, or nothing in it.
        EmptyTruncatedResponseError: nothing in it, because the output limit was used up.
    """
    choice = first_choice(reply)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise InvalidResponseError("Invalid response from OpenAI API: no choices")
    text = _parsed(message) or _text(message, enable_cot)
    if not text.strip():
        raise _nothing(reply, choice, _word(message, "reasoning_content"))
    text = unescaped(text)
    return truncated(text) if choice.get("finish_reason") == "length" else text


def is_whole(reply: Mapping[str, Any]) -> bool:
    """Whether the answer ended by itself: only such are kept for others."""
    return finish_reason(reply) not in ("length", "content_filter")


def finish_reason(reply: Mapping[str, Any]) -> str | None:
    """Why the answer ended, where the reply says so."""
    reason = (first_choice(reply) or {}).get("finish_reason")
    return reason if isinstance(reason, str) else None


def unescaped(text: str) -> str:
    r"""`text` with literal `\uXXXX` written out."""
    return _ESCAPE.sub(lambda found: chr(int(found.group(1), 16)), text) if r"\u" in text else text


class Thinking:
    """Turns the pieces of a stream into text, with reasoning in one `<think>` block before the answer."""

    def __init__(self, *, enable_cot: bool) -> None:
        self._enabled = enable_cot
        self._thinks = self._over = False

    def texts(self, piece: Piece) -> Iterator[str]:
        """What a piece adds; reasoning that comes with or after the answer is left out."""
        if piece.content:
            self._over = True
            yield from self.end()
            yield unescaped(piece.content)
        elif piece.reasoning and self._enabled and not self._over:
            if not self._thinks:
                self._thinks = True
                yield "<think>"
            yield unescaped(piece.reasoning)

    def end(self) -> Iterable[str]:
        """What closes the block, if it is open."""
        closing = ("</think>",) if self._thinks else ()
        self._thinks = False
        return closing


def pieces_of(reply: Mapping[str, Any]) -> list[Piece]:
    """A whole reply as the pieces of a stream: its reasoning, then its answer."""
    message = (first_choice(reply) or {}).get("message") or {}
    reasoning, content = _word(message, "reasoning_content"), _word(message, "content")
    return [piece for piece in (Piece("", reasoning), Piece(content, "")) if any(piece)]


def _parsed(message: Mapping[str, Any]) -> str:
    parsed = message.get("parsed")
    return orjson.dumps(parsed).decode() if parsed is not None else ""


def _text(message: Mapping[str, Any], enable_cot: bool) -> str:
    content, reasoning = _word(message, "content"), _word(message, "reasoning_content")
    if enable_cot and reasoning.strip() and not content.strip():
        return f"<think>{unescaped(reasoning)}</think>{content}"
    return content


def _word(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    return value if isinstance(value, str) else ""


def _nothing(reply: Mapping[str, Any], choice: Mapping[str, Any], reasoning: str) -> Exception:
    """Why there is no text: the numbers, and which knob to turn."""
    tokens, finish = tokens_of(reply), choice.get("finish_reason")
    facts = (
        f"finish_reason={finish or 'n/a'}, completion_tokens={tokens.completion if tokens else 'n/a'}, "
        f"reasoning_tokens={tokens.reasoning if tokens else 'n/a'}, reasoning_content_len={len(reasoning.strip())}"
    )
    message = f"Received empty content from OpenAI API ({facts}): "
    if finish == "length":
        cause = " (budget consumed by reasoning)" if reasoning.strip() else ""
        message += f"generation hit the token limit before emitting any content{cause}; raise max_completion_tokens"
        return empty_and_truncated(message)
    if reasoning.strip():
        return InvalidResponseError(message + "the model returned only reasoning; pass enable_cot, or ask for less")
    return InvalidResponseError(message + "the model produced no output")
