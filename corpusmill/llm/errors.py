"""A failed call, and how a reply becomes one.

Messages are made of our own words, the status, the error's code and parameter and the request id. What the endpoint
wrote is never passed on: error bodies echo prompts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpusmill.llm.taxonomy import (
    CLASSES,
    CODES,
    FIRST_SAYINGS,
    OF_A_DAY,
    SAYINGS,
    TYPES,
    FailureClass,
    Outcome,
    Saying,
    class_of_status,
)
from corpusmill.llm.usage import Billed
from corpusmill.replies import loads

if TYPE_CHECKING:
    import openai

# What may stand in a message or a log; anything else in these fields is the endpoint's prose, or an echo.
_NAME = re.compile(r"[\w.:\-\[\]]{1,128}", re.ASCII)
_INPUT = re.compile(r"^(?:input|messages|prompt)\b")
_INPUT_NO = re.compile(r"\binput(?:\[|\.)(\d{1,7})\b")


class CallError(Exception):
    """One call to the endpoint that brought no usable answer.

    `failure` is its row in the taxonomy, `outcome` whether it was paid for, `retry_after_s` the least wait that the
    endpoint asked for, `input_no` the text of a pack that the endpoint named as the cause, `billed` what a paid
    reply says it cost. `attempts` is set by the retry policy: calls made that counted.
    """

    def __init__(
        self,
        failure_class: str,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        input_no: int | None = None,
        billed: Billed | None = None,
        detail: str | None = None,
    ) -> None:
        self.failure: FailureClass = CLASSES[failure_class]
        self.failure_class = failure_class
        self.code, self.status, self.param = named(code), status, named(param)
        self.retry_after_s, self.request_id = retry_after_s, named(request_id)
        self.headers: Mapping[str, str] = headers if headers is not None else {}
        self.input_no, self.billed, self.detail = input_no, billed, detail
        self.attempts = 1
        self.sdk_error: Callable[[], Awaitable[openai.OpenAIError]] | None = None
        super().__init__(failure_class)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.failure_class}: {self.message})"

    @property
    def action(self) -> str:
        """What follows: see `FailureClass`."""
        return self.failure.action

    @property
    def outcome(self) -> Outcome:
        """Whether the call was paid for."""
        return self.failure.outcome

    @property
    def message(self) -> str:
        """One redacted line: what it means, then the facts that were seen."""
        facts = [
            self.detail,
            f"HTTP {self.status}" if self.status and self.status >= 300 else None,
            self.code,
            f"parameter {self.param}" if self.param else None,
            f"request {self.request_id}" if self.request_id else None,
        ]
        seen = ", ".join(fact for fact in facts if fact)
        return f"{self.failure.meaning} ({seen})" if seen else self.failure.meaning

    async def as_openai(self) -> openai.OpenAIError:
        """The exception that the SDK would have raised for the same answer, made by the SDK's own client.

        Its body is what the endpoint wrote and may echo the prompt: for the caller's eyes, never for a log.
        """
        if self.sdk_error is None:
            import openai

            return openai.OpenAIError(self.message)
        return await self.sdk_error()


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error body says, in whichever dialect; `message` is for recognising only, never for showing."""

    code: str | None = None
    type: str | None = None
    param: str | None = None
    message: str = ""
    readable: bool = False


def named(value: object) -> str | None:
    """`value` if it has the shape of a name or an id, else None."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def facts_of(body: bytes) -> ErrorFacts:
    """Read an error body: OpenAI's shape, and the wrapped, flat and plain ones of others; HTML gives no facts."""
    try:
        error = _error_object(loads(body))
    except ValueError:
        return ErrorFacts()
    if isinstance(error, str):
        return ErrorFacts(message=error, readable=True)
    if not isinstance(error, dict):
        return ErrorFacts()
    code, kind, param = (_word(error.get(name)) for name in ("code", "type", "param"))
    message = error.get("message") or error.get("detail")
    return ErrorFacts(code, kind, param, message if isinstance(message, str) else "", readable=True)


def _error_object(reply: Any) -> Any:
    if isinstance(reply, list) and reply:  # Google's endpoint wraps its one error in a list
        reply = reply[0]
    if isinstance(reply, dict) and "error" in reply:
        return reply["error"]
    return reply


def _word(value: object) -> str | None:
    """A code, type or parameter as text; some endpoints write codes as numbers."""
    return str(value) if isinstance(value, (str, int)) and value != "" else None


def classify(status: int, facts: ErrorFacts) -> str:
    """The name of the failure class: by message where it is stronger, code, type, message, parameter, then status."""
    found = _recognised(status, facts)
    return "day_limited" if found == "rate_limited" and OF_A_DAY.search(facts.message) else found


def _recognised(status: int, facts: ErrorFacts) -> str:
    code, kind = (facts.code or "").lower(), (facts.type or "").lower()
    return (
        _said(FIRST_SAYINGS, status, facts.message)
        or CODES.get(code)
        or TYPES.get(kind)
        or _said(SAYINGS, status, facts.message)
        or _by_param(status, facts.param)
        or _by_status(status, facts)
    )


def _said(sayings: tuple[Saying, ...], status: int, message: str) -> str | None:
    for saying in sayings:
        if message and (not saying.statuses or status in saying.statuses) and saying.says.search(message):
            return saying.failure
    return None


def _by_param(status: int, param: str | None) -> str | None:
    """A 400 that names its cause: the text itself, or a parameter that all items share."""
    if status not in (400, 422) or not param:
        return None
    return "bad_input" if _INPUT.match(param) else "bad_parameter"


def _by_status(status: int, facts: ErrorFacts) -> str:
    # A firewall's page may come for one text only; it says nothing about the key.
    if status == 403 and not facts.readable:
        return "forbidden"
    return class_of_status(status)


def input_no_of(facts: ErrorFacts) -> int | None:
    """The text of a pack that the error names, counted from 0."""
    found = _INPUT_NO.search(facts.param or "") or _INPUT_NO.search(facts.message)
    return int(found.group(1)) if found else None
