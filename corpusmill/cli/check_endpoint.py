"""One free request to an endpoint: does it answer, does it take the key."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from corpusmill.endpoint import Endpoint
from corpusmill.errors import KeyRefused, Unavailable
from corpusmill.llm.proxies import proxy_for

WITHIN_S = 15.0


@dataclass(frozen=True)
class Answer:
    """How an endpoint answered; `clock_apart_s`: by how much its clock is ahead, when it says."""

    name: str
    base_url: str
    said: str
    clock_apart_s: float | None


def ask(endpoint: Endpoint, called: Callable[..., str]) -> Answer:
    """GET /models. `called` is `Settings.called`: the advice names a setting as the user did.

    Raises:
        KeyRefused: 401 or 403.
        Unavailable: no connection, or an answer that no such endpoint gives.
    """
    setting = ("providers", endpoint.name)
    with _client(endpoint) as client:
        try:
            raw = client.models.with_raw_response.list()
            said, headers = _count(raw), raw.headers
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise KeyRefused(
                f"the endpoint refuses the key of provider {endpoint.name} ({error.status_code})",
                where=endpoint.base_url,
                next_step=f"correct {called((*setting, 'api_key'), (*setting, 'api_key_file'))}",
            ) from None
        except openai.APIStatusError as error:
            if error.status_code >= 500:
                raise Unavailable(
                    f"the endpoint answers {error.status_code}", where=endpoint.base_url, next_step="try again later"
                ) from None
            said, headers = f"answers, lists no models ({error.status_code})", error.response.headers
        except openai.OpenAIError as error:
            raise Unavailable(
                f"the endpoint cannot be reached: {_reason(error)}",
                where=endpoint.base_url,
                next_step=f"check the network, or correct {called((*setting, 'base_url'))}",
            ) from None
    return Answer(endpoint.name, endpoint.base_url, said, _clock_apart_s(headers.get("date")))


def _client(endpoint: Endpoint) -> openai.OpenAI:
    transport = openai.DefaultHttpx2Client(
        proxy=proxy_for(endpoint.base_url, endpoint.proxy), trust_env=False, follow_redirects=False, timeout=WITHIN_S
    )
    shared: dict[str, Any] = {
        "api_key": endpoint.api_key or "none",
        "max_retries": 0,
        "default_headers": dict(endpoint.headers),
        "http_client": transport,
    }
    if endpoint.kind == "azure":
        return openai.AzureOpenAI(azure_endpoint=endpoint.base_url, api_version=endpoint.api_version, **shared)
    return openai.OpenAI(base_url=endpoint.base_url, **shared)


def _count(raw: Any) -> str:
    """How many models are listed; what is no list, such as a login page, is said to be none."""
    with suppress(Exception):
        return f"takes the key, {len(raw.parse().data)} models"
    return "answers, but with no list of models"


def _reason(error: openai.OpenAIError) -> str:
    cause = error.__cause__
    return f"{type(cause or error).__name__}" + (f" {cause}" if cause and "@" not in str(cause) else "")


def _clock_apart_s(date: str | None) -> float | None:
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(date or "").timestamp() - time.time()
    return None
