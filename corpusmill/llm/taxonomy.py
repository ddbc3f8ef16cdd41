"""Every way in which a call can fail, as data: what it means, what it costs and what follows from it.

A failure is recognised by its error *code*; type, message, parameter and status only count where a code says nothing,
because one status stands for many things (a 429 may be a busy minute or an empty account). The codes of OpenAI,
Azure, vLLM, Groq, Mistral, DeepSeek, OpenRouter and Ollama stand in one table: they do not contradict each other.
A foreign dialect is a new row here, not new code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Action = Literal["retry", "retry_free", "fail", "pause", "stop"]
Outcome = Literal["unpaid", "unknown", "paid"]
Pause = Literal["billing", "key", "endpoint"]
Penalty = Literal["rate", "slow_down", "overload", "day"]


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One way to fail.

    `action`: `retry` uses up an attempt, `retry_free` does not; `fail` is the item's own fault; `pause` concerns the
    key, the account or the endpoint, so the lane stops at once; `stop` may well concern every item alike, so a job
    in which nothing else happens is stopped after a handful.
    `pauses`: the reason of a pause; with `retry_free` it holds once nothing but this happens.
    `slows`: how the limiter takes it. `splits`: one text in a pack may be the cause, so the pack is halved.
    `calls`: never more than so many calls for it; None: as many as the retry settings allow.
    """

    name: str
    meaning: str
    action: Action
    outcome: Outcome = "unpaid"
    pauses: Pause | None = None
    slows: Penalty | None = None
    splits: bool = False
    calls: int | None = None


BAD_REPLY_CALLS = 3

_CLASSES = (
    FailureClass("rate_limited", "the endpoint's rate limit was reached", "retry_free", slows="rate"),
    FailureClass("day_limited", "the endpoint's limit of a day is used up", "retry_free", slows="day"),
    FailureClass("slow_down", "the endpoint asks to grow more slowly", "retry_free", slows="slow_down"),
    FailureClass("overloaded", "the endpoint is overloaded", "retry_free", slows="overload"),
    FailureClass("flex_unavailable", "the endpoint has no flex capacity now", "retry_free"),
    FailureClass("unavailable", "the endpoint is not ready to answer", "retry", slows="overload"),
    FailureClass("connection", "the endpoint cannot be reached", "retry_free", pauses="endpoint"),
    FailureClass("tls", "no secure connection to the endpoint", "pause", pauses="endpoint"),
    FailureClass("proxy", "the proxy refused to pass the request on", "pause", pauses="endpoint"),
    FailureClass("connection_lost", "the connection broke before the reply was complete", "retry", "unknown"),
    FailureClass("timeout", "no complete reply within the time limit", "retry", "unknown"),
    FailureClass("server_error", "the endpoint failed", "retry", "unknown"),
    FailureClass("billing", "the account's credit or spend limit is used up", "pause", pauses="billing"),
    FailureClass("key_refused", "the endpoint refused the key", "pause", pauses="key"),
    FailureClass("forbidden", "something before the endpoint forbids the request", "stop", splits=True),
    FailureClass("no_such_model", "the endpoint has no such model, or the key may not use it", "stop"),
    FailureClass("not_found", "nothing answers at this address; is the base URL right?", "stop"),
    FailureClass("redirected", "the endpoint redirects, which is not followed; is the base URL right?", "stop"),
    FailureClass("bad_parameter", "the endpoint refuses a parameter of the request", "stop"),
    FailureClass("bad_request", "the endpoint refuses the request", "stop", splits=True),
    FailureClass("bad_input", "the endpoint refuses this text", "fail", splits=True),
    FailureClass("too_large", "the request is larger than the endpoint takes", "fail", splits=True),
    FailureClass("context_length", "the text is longer than the model takes", "fail", splits=True),
    FailureClass("content_policy", "the endpoint's content policy refuses this text", "fail", splits=True),
    FailureClass("content_filter", "the content filter removed the answer", "fail", "paid"),
    FailureClass("refusal", "the model refused to answer", "fail", "paid"),
    FailureClass("no_room", "the output limit was used up before any text came; allow more output", "fail", "paid"),
    FailureClass("empty_reply", "the answer is empty", "retry", "paid", calls=BAD_REPLY_CALLS),
    FailureClass(
        "bad_reply", "the reply is not what was asked for", "retry", "paid", splits=True, calls=BAD_REPLY_CALLS
    ),
)
CLASSES = {each.name: each for each in _CLASSES}


CODES = {
    # money: waiting refills no account
    "insufficient_quota": "billing",
    "credit_balance_exhausted": "billing",
    "organization_spend_limit_exceeded": "billing",
    "project_spend_limit_exceeded": "billing",
    "organization_usage_limit_exceeded": "billing",
    "billing_hard_limit_reached": "billing",
    "billing_not_active": "billing",
    "insufficient_balance": "billing",
    "budget_exceeded": "billing",
    # rate
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "rate_limited": "rate_limited",
    "resource_exhausted": "rate_limited",
    "too_many_requests": "rate_limited",
    "1300": "rate_limited",  # Mistral
    "slow_down": "slow_down",
    "server_is_overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "engine_overloaded": "overloaded",
    "model_overloaded": "overloaded",
    "capacity_exceeded": "overloaded",  # Groq
    "resource_unavailable": "flex_unavailable",
    # key
    "invalid_api_key": "key_refused",
    "invalid_authentication": "key_refused",
    "authentication_error": "key_refused",
    "account_deactivated": "key_refused",
    # the request as such
    "model_not_found": "no_such_model",
    "deploymentnotfound": "no_such_model",  # Azure
    "unsupported_parameter": "bad_parameter",
    "unsupported_value": "bad_parameter",
    "unknown_parameter": "bad_parameter",
    "missing_required_parameter": "bad_parameter",
    # the text
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "content_policy_violation": "content_policy",
    "content_filter": "content_policy",
    "responsibleaipolicyviolation": "content_policy",
    "invalid_prompt": "content_policy",
}

# Looked at only where the code says nothing.
TYPES = {
    "insufficient_quota": "billing",
    "budget_exceeded": "billing",
    "tokens": "rate_limited",
    "requests": "rate_limited",
    "rate_limit_error": "rate_limited",
    "rate_limited": "rate_limited",
    "service_unavailable_error": "overloaded",
    "overloaded_error": "overloaded",
    "authentication_error": "key_refused",
    "permission_error": "key_refused",
}


@dataclass(frozen=True, slots=True)
class Saying:
    """A failure that only its message tells, among replies of these statuses (none: any)."""

    failure: str
    says: re.Pattern[str]
    statuses: frozenset[int] = frozenset()


def _says(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# Stronger than the code: a request above the whole minute's limit carries the code of a busy minute, for ever.
FIRST_SAYINGS = (Saying("too_large", _says(r"request too large"), frozenset({413, 429})),)

# Weaker than the code: endpoints that send none, or a number.
SAYINGS = (
    Saying("flex_unavailable", _says(r"resource unavailable"), frozenset({429, 503})),
    Saying("context_length", _says(r"maximum context length|context (?:window|length)"), frozenset({400, 413, 422})),
    Saying("no_such_model", _says(r"model\b.{0,200}\b(?:not found|does not exist)"), frozenset({400, 404})),
)

# A limit of a day has the code of a busy minute.
OF_A_DAY = _says(r"\bper day\b|\((?:RPD|TPD)\)")

STATUSES = {
    400: "bad_request",
    401: "key_refused",
    402: "billing",
    403: "key_refused",
    404: "not_found",
    405: "not_found",
    407: "proxy",
    408: "server_error",
    409: "server_error",
    410: "not_found",
    413: "too_large",
    422: "bad_request",
    424: "server_error",
    425: "server_error",
    429: "rate_limited",
    498: "overloaded",  # Groq
    503: "unavailable",
    529: "overloaded",
}


def class_of_status(status: int) -> str:
    """The failure class that a bare status stands for."""
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return "redirected" if status >= 300 else "bad_reply"
    return "bad_request" if status < 500 else "server_error"
