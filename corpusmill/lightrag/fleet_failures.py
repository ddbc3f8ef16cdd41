"""What the fleet writes down of a failed item, as the exception that its caller knows."""

from __future__ import annotations

import re

import openai
import tenacity

from corpusmill.lightrag.failures import InvalidResponseError, empty_and_truncated, from_text

_STATUS = re.compile(r"\bHTTP (\d{3})\b")
_OF_STATUS: dict[int, type[openai.APIError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    408: openai.APIStatusError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
_OF_CLASS: dict[str, type[openai.APIError]] = {
    "billing": openai.RateLimitError,
    "budget": openai.RateLimitError,
    "key": openai.AuthenticationError,
    "endpoint": openai.APIConnectionError,
    "connection": openai.APIConnectionError,
    "connection_lost": openai.APIConnectionError,
    "timeout": openai.APITimeoutError,
    "server_error": openai.InternalServerError,
    "unavailable": openai.InternalServerError,
}
# The fleet has tried these again and again before it gave up.
_TRIED_AGAIN = frozenset({"endpoint", "connection", "connection_lost", "timeout", "server_error", "unavailable"})
_NO_ANSWER = frozenset({"empty_reply", "bad_reply", "refusal", "content_filter"})


def failure(failure_class: str, message: str) -> Exception:
    """The exception for a failure class, or for the reason of a pause."""
    if failure_class == "no_room":
        return empty_and_truncated(message)
    if failure_class in _NO_ANSWER:
        return given_up(InvalidResponseError(message))
    status = _STATUS.search(message)
    # The status first: one class of ours stands for several exceptions of the SDK's.
    kind = (_OF_STATUS.get(int(status.group(1))) if status else None) or _OF_CLASS.get(failure_class)
    error = from_text(kind or openai.APIError, message)
    return given_up(error) if failure_class in _TRIED_AGAIN else error


def given_up(error: Exception) -> tenacity.RetryError:
    """What tries without success end in."""
    last = tenacity.Future(1)
    last.set_exception(error)
    return tenacity.RetryError(last)
