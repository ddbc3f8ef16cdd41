"""What a provider takes off the tokens-a-minute limit for a request, told before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Literal, Protocol

Charge = Literal["openai", "azure"]
CHARACTERS_A_TOKEN = 4


class Formula(Protocol):
    """A provider's own way to charge; `corpusmill.endpoint.Formula` is one."""

    @property
    def max_output(self) -> float:
        """Tokens for each token of the output cap."""

    @property
    def characters(self) -> float:
        """Tokens for each character of the message contents or inputs."""

    @property
    def request(self) -> float:
        """Tokens for every request."""

    @property
    def combine(self) -> Literal["max", "sum"]:
        """Whether output cap and characters are added, or the larger of both counts."""


def charge(kind: Charge | Formula, *, max_output: int | None, chars: int) -> int:
    """Tokens that a request is charged with, at least 1.

    Args:
        kind: `openai` takes the larger of the output cap and the estimate from characters, `azure` their sum; a
            `Formula` says it in figures.
        max_output: the request's output cap in tokens; None when it has none.
        chars: characters of the message contents or of the inputs.
    """
    cap = max_output or 0
    if not isinstance(kind, str):
        parts = kind.max_output * cap, kind.characters * chars
        return max(1, ceil(kind.request + (max(parts) if kind.combine == "max" else sum(parts))))
    estimate = -(-chars // CHARACTERS_A_TOKEN)
    return max(1, estimate + cap if kind == "azure" else max(estimate, cap))


def facts_of(body: Mapping[str, Any]) -> tuple[int | None, int]:
    """The output cap and the characters of a raw request body, for `charge`.

    A body that is not what the endpoint expects gives what can be found in it: refusing it is the endpoint's part.
    """
    cap = body.get("max_completion_tokens", body.get("max_tokens"))
    chars = _chars_of_input(body.get("input")) + sum(map(_chars_of_message, _listed(body.get("messages"))))
    return (cap if isinstance(cap, int) and cap > 0 else None), chars


def _chars_of_message(message: Any) -> int:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return len(content)
    texts = (part.get("text") for part in _listed(content) if isinstance(part, Mapping))
    return sum(len(text) for text in texts if isinstance(text, str))


def _chars_of_input(given: Any) -> int:
    """Characters of an embedding's input: a text, texts, or tokens, which count as four characters each."""
    if isinstance(given, str):
        return len(given)
    return sum(CHARACTERS_A_TOKEN if isinstance(one, int) else _chars_of_input(one) for one in _listed(given))


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else ()
