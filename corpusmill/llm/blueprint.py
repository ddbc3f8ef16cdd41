"""What the OpenAI SDK would send, asked of the SDK itself.

The SDK keeps the configuration: base URL, keys and Azure tokens, organisation and project, default headers and query.
It is given an HTTP client that sends nothing. Rehearsing a call on it yields the very request it would make, which the
hot path then sends with other bodies at a third of the SDK's cost; playing a reply back on it yields the very
exception it would raise. Both go through its public interface alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import orjson
from multidict import CIMultiDict
from openai import AsyncAzureOpenAI, AsyncOpenAI, Omit
from yarl import URL

from corpusmill.endpoint import Endpoint
from corpusmill.llm.redaction import Redaction, redaction_of

Answer = Callable[[httpx2.Request], httpx2.Response]

_AUTH_HEADERS = ("Authorization", "api-key")
# Of one message, or of the SDK's own retry loop, which is off.
_NOT_OURS = ("content-length", "transfer-encoding", "x-stainless-retry-count")
# What aiohttp unpacks in every installation; the SDK's own transport would offer what it can.
_ACCEPT_ENCODING = "gzip, deflate"

_answer: ContextVar[Answer] = ContextVar("_answer")


class _Rehearsal(httpx2.AsyncClient):
    """A client that sends nothing and answers as the current rehearsal says.

    `send` and not a transport: with one, the library would log a request that nobody makes.
    """

    async def send(self, request: httpx2.Request, **_how: Any) -> httpx2.Response:
        return _answer.get()(request)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where a request goes and the headers it carries; the body is not part of it. `redaction` knows its secrets."""

    url: URL
    headers: CIMultiDict[str]
    redaction: Redaction = field(repr=False)


class Blueprint:
    """One configured SDK client, and the requests it would make.

    `fixed`: the credentials never change, so what a path needs is asked once. `without_key`: send no credentials.
    """

    def __init__(self, sdk: AsyncOpenAI, *, fixed: bool, without_key: bool = False) -> None:
        self.sdk = sdk.with_options(http_client=_rehearsal_client(), max_retries=0)
        self.fixed = fixed
        headers: dict[str, str | Omit] = {name: Omit() for name in _AUTH_HEADERS} if without_key else {}
        self._options: Any = {"headers": headers, "security": {"bearer_auth": True}}
        # An Azure client without a deployment puts the body's model into the path.
        self._path_needs_model = isinstance(sdk, AsyncAzureOpenAI) and "/deployments" not in sdk.base_url.path
        self._kept: dict[tuple[str, str | None], Prepared] = {}

    @classmethod
    def of(cls, endpoint: Endpoint) -> Blueprint:
        """The blueprint of a configured endpoint."""
        return cls(_sdk_of(endpoint), fixed=True, without_key=endpoint.api_key is None)

    async def prepared(self, path: str, body: bytes) -> Prepared:
        """URL and headers for `body` at `path`."""
        model = str(orjson.loads(body).get("model", "")) if self._path_needs_model else None
        kept = self._kept.get((path, model))
        if kept is None:
            kept = await self._rehearse(path, {} if model is None else {"model": model})
            if self.fixed:
                self._kept[path, model] = kept
        return kept

    async def error(self, path: str, answer: Answer) -> openai.OpenAIError:
        """The exception that the SDK raises for `answer`, or for the exception that `answer` raises."""
        try:
            response = await self._play(path, {}, answer)
        except openai.OpenAIError as error:
            return error
        # A status that the SDK takes for success, with a body that is none.
        return openai.APIResponseValidationError(response=response, body=response.text)

    async def close(self) -> None:
        """Close the SDK client."""
        await self.sdk.close()

    async def _rehearse(self, path: str, body: Mapping[str, Any]) -> Prepared:
        response = await self._play(path, body, lambda request: httpx2.Response(200, json={}, request=request))
        request = response.request
        headers = CIMultiDict((name.decode(), value.decode()) for name, value in request.headers.raw)
        for name in _NOT_OURS:
            headers.popall(name, None)
        return Prepared(URL(str(request.url), encoded=True), headers, redaction_of(headers))

    async def _play(self, path: str, body: Mapping[str, Any], answer: Answer) -> httpx2.Response:
        token = _answer.set(answer)
        try:
            return await self.sdk.post(path, cast_to=httpx2.Response, body=dict(body), options=self._options)
        finally:
            _answer.reset(token)


def _rehearsal_client() -> httpx2.AsyncClient:
    # A transport that does nothing: the usual one begins by reading all certificates, for 25 ms.
    transport = httpx2.AsyncBaseTransport()
    return _Rehearsal(headers={"Accept-Encoding": _ACCEPT_ENCODING}, transport=transport, trust_env=False)


def _sdk_of(endpoint: Endpoint) -> AsyncOpenAI:
    """The SDK client of an endpoint. Without a key it gets a dummy: given none, it takes one from the environment."""
    shared: dict[str, Any] = {
        "api_key": endpoint.api_key or "none",
        "timeout": endpoint.timeout_s,
        "max_retries": 0,  # ours are the only retries: two loops multiply, and the SDK's knows no billing errors
        "default_headers": dict(endpoint.headers),
        "http_client": _rehearsal_client(),
    }
    if endpoint.kind != "azure":
        return AsyncOpenAI(base_url=endpoint.base_url, **shared)
    azure: dict[str, Any] = {"api_version": endpoint.api_version, **shared}
    if "/openai" in httpx2.URL(endpoint.base_url).path:
        return AsyncAzureOpenAI(base_url=endpoint.base_url, **azure)
    return AsyncAzureOpenAI(azure_endpoint=endpoint.base_url, azure_deployment=endpoint.deployment, **azure)
