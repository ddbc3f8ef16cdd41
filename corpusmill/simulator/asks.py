"""What a request asks for, read from its body and checked as OpenAI checks it.

Tokens are counted as characters/4, rounded up, as OpenAI's limiter does before it tokenises; only an input that
might be over the model's limit is counted exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from corpusmill.simulator.errors import invalid, refused

MAX_CHOICES = 128
MAX_INPUTS = 2048
MAX_INPUT_TOKENS = 8192
# 300,000 is the limit; at four characters a token the count here may be off by half either way, so only what is
# over for certain is refused.
SURELY_TOO_MANY_TOKENS = 450_000
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
CHARACTERS_A_TOKEN = 4

Kind = Literal["completion", "embedding"]


@dataclass(slots=True)
class Ask:
    """A checked request. `characters` are those of all texts together; `digest` (16 bytes) stands for the request."""

    kind: Kind
    key: str
    model: str
    body: dict[str, Any]
    texts: list[str]
    characters: int
    prompt_tokens: int
    max_output: int | None
    digest: bytes

    def charge(self) -> float:
        """Tokens that an estimating limiter takes: the output cap or characters/4, whichever is more."""
        return max(self.max_output or 0, self.characters / CHARACTERS_A_TOKEN)


def tokens_of(characters: int) -> int:
    """Tokens in a text of that many characters, at four characters a token."""
    return -(-characters // CHARACTERS_A_TOKEN)


def ask_for_completion(key: str, model: str, body: dict[str, Any]) -> Ask:
    """Read a chat completion.

    Raises:
        Refused: messages are missing or malformed, or the output cap is no positive number.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    texts: list[str] = []
    for message in messages:
        texts.extend(_texts_of(message))
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise invalid("The output cap must be a positive integer.", param="max_completion_tokens", code="invalid_value")
    n = body.get("n")
    if n is not None and (type(n) is not int or not 1 <= n <= MAX_CHOICES):
        raise invalid(f"'n' must be between 1 and {MAX_CHOICES}.", param="n", code="invalid_value")
    characters = sum(map(len, texts))
    return Ask("completion", key, model, body, texts, characters, tokens_of(characters), cap, _digest(body))


def ask_for_embedding(key: str, model: str, body: dict[str, Any]) -> Ask:
    """Read an embedding request: one text, texts, one token array, or token arrays.

    Raises:
        Refused: no input, an empty one, more than 2,048, one over 8,192 tokens, or too many together.
    """
    inputs = _inputs(body.get("input"))
    for one in inputs:
        _check_length(one)
    # A token array goes by the text of its numbers.
    texts = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in inputs]
    characters = sum(len(one) if isinstance(one, str) else len(one) * CHARACTERS_A_TOKEN for one in inputs)
    tokens = sum(tokens_of(len(one)) if isinstance(one, str) else len(one) for one in inputs)
    _check_dimensions(body.get("dimensions"))
    if tokens > SURELY_TOO_MANY_TOKENS:
        raise refused(
            400,
            "max_tokens_per_request",
            "max_tokens_per_request",
            f"Requested {tokens} tokens, max 300000 tokens per request",
        )
    return Ask("embedding", key, model, body, texts, characters, tokens, None, _digest(body))


def _digest(body: dict[str, Any]) -> bytes:
    # Sorted: the order of keys on the wire changes nothing of what is asked for.
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _texts_of(message: Any) -> list[str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in ROLES:
        raise invalid(
            "Invalid message: an object with a known 'role' is needed.", param="messages", code="invalid_value"
        )
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if content is None:
        return []
    if not isinstance(content, list):
        raise invalid("Invalid type for 'messages.content'.", param="messages", code="invalid_type")
    return [_text_of_part(part) for part in content]


def _text_of_part(part: Any) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, dict) and "type" in part:
        # An image or a sound: the estimate is made from characters alone.
        return ""
    raise invalid("Invalid content part.", param="messages", code="invalid_value")


def _inputs(value: Any) -> list[str | list[int]]:
    if isinstance(value, str) or _is_token_array(value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise invalid("'$.input' is invalid: a text or a list of texts is needed.", param="input")
    if len(value) > MAX_INPUTS:
        raise invalid(f"'$.input' is invalid: at most {MAX_INPUTS} inputs, not {len(value)}.", param="input")
    for one in value:
        if not one or not (isinstance(one, str) or _is_token_array(one)):
            raise invalid("'$.input' is invalid: no input may be empty.", param="input")
    return value


def _is_token_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


def _check_length(one: str | list[int]) -> None:
    exact = _exact(one) if isinstance(one, str) else len(one)
    if exact > MAX_INPUT_TOKENS:
        raise invalid(
            f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however you requested {exact} tokens "
            f"({exact} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            param="input",
            code="context_length_exceeded",
        )


def _exact(text: str) -> int:
    # No token is shorter than a byte, and no character longer than four: most texts need no tokeniser.
    if len(text) * 4 <= MAX_INPUT_TOKENS or len(text.encode()) <= MAX_INPUT_TOKENS:
        return 0
    from corpusmill.tokens import encoding_for

    return encoding_for("text-embedding-3-small").count(text)


def _check_dimensions(value: Any) -> None:
    if value is not None and (type(value) is not int or not 1 <= value <= 16384):
        raise invalid("'$.dimensions' is invalid: a positive integer is needed.", param="dimensions")
