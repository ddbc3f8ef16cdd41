"""How the endpoint says no: statuses, types, codes and messages as OpenAI and its neighbours write them.

Clients must decide by `code`: the status alone does not tell a full minute from an empty account.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One way to be refused. `message` may hold `{model}`, `{text}` (as real endpoints echo it) and `{wait}`."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None


_BILLING = "You have used up {what}. Add credit or raise the limit under billing, then try again."
_RATE = "Rate limit reached for {{model}} in organization org-simulator on {what}. Please try again in {{wait}}."

ERROR_KINDS: dict[str, ErrorKind] = {
    "rate_limit_requests": ErrorKind(
        429,
        "requests",
        "rate_limit_exceeded",
        _RATE.format(what="requests per min (RPM): Limit 3, Used 3, Requested 1"),
    ),
    "rate_limit_tokens": ErrorKind(
        429,
        "tokens",
        "rate_limit_exceeded",
        _RATE.format(what="tokens per min (TPM): Limit 30000, Used 26107, Requested 3923"),
    ),
    "rate_limit_day": ErrorKind(
        429,
        "requests",
        "rate_limit_exceeded",
        _RATE.format(what="requests per day (RPD): Limit 10000, Used 10000, Requested 1"),
    ),
    "slow_down": ErrorKind(
        429, "rate_limit_error", "slow_down", "Traffic to {model} grew too fast. Reduce it and ramp up slowly."
    ),
    "slow_down_503": ErrorKind(
        503, "service_unavailable_error", "slow_down", "Traffic to {model} grew too fast. Reduce it and ramp up slowly."
    ),
    "flex_unavailable": ErrorKind(
        429, "resource_unavailable", "resource_unavailable", "No flex capacity for {model} now. You were not charged."
    ),
    "insufficient_quota": ErrorKind(
        429, "insufficient_quota", "insufficient_quota", _BILLING.format(what="your current quota")
    ),
    "credit_balance_exhausted": ErrorKind(
        429, "insufficient_quota", "credit_balance_exhausted", _BILLING.format(what="your credit balance")
    ),
    "organization_spend_limit_exceeded": ErrorKind(
        429,
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        _BILLING.format(what="the organization's spend limit"),
    ),
    "project_spend_limit_exceeded": ErrorKind(
        429, "insufficient_quota", "project_spend_limit_exceeded", _BILLING.format(what="the project's spend limit")
    ),
    "organization_usage_limit_exceeded": ErrorKind(
        429,
        "insufficient_quota",
        "organization_usage_limit_exceeded",
        _BILLING.format(what="the organization's usage limit"),
    ),
    "billing_hard_limit_reached": ErrorKind(
        429, "insufficient_quota", "billing_hard_limit_reached", _BILLING.format(what="the hard limit of your account")
    ),
    "overloaded": ErrorKind(
        503, "service_unavailable_error", "server_is_overloaded", "{model} is overloaded. Please try again later."
    ),
    "server_error": ErrorKind(500, "server_error", None, "The server had an error while processing your request."),
    "gateway_timeout": ErrorKind(504, "server_error", None, "The upstream server did not answer in time."),
    "request_timeout": ErrorKind(408, "invalid_request_error", None, "The request took too long."),
    "conflict": ErrorKind(409, "invalid_request_error", "conflict", "The resource was changed by another request."),
    "invalid_key": ErrorKind(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: {key}."),
    "forbidden": ErrorKind(403, "invalid_request_error", "unsupported_country_region_territory", "Not supported here."),
    "model_not_found": ErrorKind(
        404,
        "invalid_request_error",
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    "bad_parameter": ErrorKind(
        400, "invalid_request_error", "invalid_value", "Invalid value in a request about '{text}'.", "temperature"
    ),
    # A body that was damaged on its way: the same request passes the next time.
    "could_not_parse": ErrorKind(
        400, "invalid_request_error", None, "We could not parse the JSON body of your request."
    ),
    "budget_exceeded": ErrorKind(429, "budget_exceeded", None, "Budget has been exceeded!"),
    "context_length": ErrorKind(
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens, however you requested more. Please reduce your prompt.",
        "messages",
    ),
    "content_policy": ErrorKind(
        400,
        "invalid_request_error",
        "content_policy_violation",
        "Your request was rejected by the safety system: '{text}'.",
    ),
    "too_large": ErrorKind(413, "invalid_request_error", "request_too_large", "The request body is too large."),
    "unprocessable": ErrorKind(422, "invalid_request_error", None, "The request could not be processed."),
    "failed_dependency": ErrorKind(424, "failed_dependency", None, "A service that this one needs has failed."),
    "capacity_exceeded": ErrorKind(498, "capacity_exceeded", "capacity_exceeded", "Flex tier capacity exceeded."),
    # Not the endpoint's own: a proxy's page of HTML, without a code.
    "bad_gateway": ErrorKind(502, "", None, ""),
    "overloaded_529": ErrorKind(529, "overloaded_error", None, "Overloaded."),
}


class Refused(Exception):
    """The request is refused. `headers` are further header lines, each ending in CRLF."""

    def __init__(
        self, status: int, body: bytes, headers: bytes = b"", content_type: bytes = b"application/json"
    ) -> None:
        self.status, self.body, self.headers, self.content_type = status, body, headers, content_type
        super().__init__(status)


def refusal(kind: ErrorKind, *, headers: bytes = b"", **facts: str) -> Refused:
    """A refusal of `kind`; `facts` fill the message."""
    return refused(kind.status, kind.type, kind.code, kind.message.format(**facts), kind.param, headers)


def refused(
    status: int, type_: str, code: str | None, message: str, param: str | None = None, headers: bytes = b""
) -> Refused:
    """A refusal with the body that OpenAI's client reads."""
    error = {"message": message, "type": type_, "param": param, "code": code}
    return Refused(status, orjson.dumps({"error": error}), headers)


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> Refused:
    """A 400: the request itself is wrong, and will be next time."""
    return refused(400, "invalid_request_error", code, message, param)


def masked(key: str) -> str:
    """A key as error messages show it: eight characters, stars, the last four."""
    return f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)
