"""The exceptions that callers of LightRAG's functions know, each of which one string can build again.

LightRAG rebuilds what it catches as `type(error)("[LLM func] …")`, which the SDK's own classes do not bear.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import openai

from corpusmill.errors import SettingsError
from corpusmill.lightrag.kin import kin_of_lightrag

E = TypeVar("E", bound=openai.APIError)

_PERMANENT_TYPES = ("budget_exceeded", "insufficient_quota")
_ONCE_MORE_STATUSES = frozenset({408, 409})


class InvalidResponseError(Exception):
    """The endpoint's reply is no answer; another call may bring one."""


class TransientBadRequestError(Exception):
    """A 400 for a body that the endpoint could not parse: damaged on the way, so another call may pass."""


class EmptyTruncatedResponseError(RuntimeError):
    """The output limit was used up before any text came; the same call would end the same way."""


class MissingKeyError(SettingsError, KeyError):
    """No API key was given and none stands in the environment."""


def empty_and_truncated(message: str) -> EmptyTruncatedResponseError:
    """That error, as LightRAG's `except` clauses know it too."""
    return kin_of_lightrag(EmptyTruncatedResponseError, "lightrag.exceptions")(message)


def rebuildable(error: E) -> E:
    """`error` itself, made an instance of a subclass of its class that one string can build."""
    kind: Callable[[Any], Any] = _rebuildable
    error.__class__ = kind(type(error))
    return error


def from_text(kind: type[openai.APIError], message: str) -> openai.APIError:
    """An exception of that class of the SDK, or one derived from it, made from a message alone."""
    made: Any = kind
    error: openai.APIError = _rebuildable(made)(message)
    return error


def is_permanent(error: openai.RateLimitError) -> bool:
    """Whether a 429 means money, which no waiting brings back."""
    bodies = [error.body, error.body.get("error") if isinstance(error.body, dict) else None]
    types = [str(body.get("type")).strip().lower() for body in bodies if isinstance(body, dict)]
    said = str(error).lower()
    return any(kind in types or kind in said for kind in _PERMANENT_TYPES)


def is_worth_retrying(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, openai.RateLimitError):
        return not is_permanent(error)
    if isinstance(error, openai.APIStatusError):
        return error.status_code in _ONCE_MORE_STATUSES or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError | InvalidResponseError | TransientBadRequestError)


def could_not_be_parsed(error: openai.BadRequestError) -> bool:
    """Whether a 400 complains of a body that arrived damaged."""
    return "could not parse" in str(error).lower()


@cache
def _rebuildable(kind: Any) -> Any:
    if "rebuildable" in vars(kind):
        return kind

    def __init__(self: Any, message: str = "", *args: Any, **facts: Any) -> None:
        if args or facts:
            kind.__init__(self, message, *args, **facts)
            return
        Exception.__init__(self, message)
        self.message, self.body, self.code, self.param, self.type = message, None, None, None, None
        self.request = self.response = self.request_id = None

    shown = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {"__init__": __init__, "rebuildable": True, **shown})
