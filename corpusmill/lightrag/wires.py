"""One request out, its raw reply in, and what goes wrong as the SDK's own exceptions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2
import openai
import orjson
from openai import DefaultAioHttpClient

from corpusmill.lightrag.clients import sdk_client
from corpusmill.lightrag.failures import TransientBadRequestError, could_not_be_parsed, rebuildable
from corpusmill.lightrag.places import Where
from corpusmill.llm.client import Client, Parts
from corpusmill.llm.errors import CallError


@dataclass(frozen=True, slots=True)
class Letter:
    """A request as it is sent. `headers` and `query` go with it alone."""

    path: str
    body: bytes
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)


class Wire(Protocol):
    """A way to one endpoint. Both methods raise what the SDK would, or `TransientBadRequestError`."""

    async def post(self, letter: Letter) -> bytes:
        """The body of the reply."""

    def stream(self, letter: Letter) -> AbstractAsyncContextManager[Parts]:
        """The reply as it comes."""

    async def close(self) -> None:
        """Let go of what is open."""


class PooledWire:
    """Over the pool's client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def post(self, letter: Letter) -> bytes:
        """The body of the reply."""
        try:
            reply = await self._client.call(letter.path, letter.body, timeout_s=letter.timeout_s)
        except CallError as error:
            raise (await _native(error)) from None
        return reply.body

    @asynccontextmanager
    async def stream(self, letter: Letter) -> AsyncIterator[Parts]:
        """The reply as it comes."""
        try:
            async with (
                self._client.stream(letter.path, letter.body, timeout_s=letter.timeout_s) as parts,
                aclosing(parts.body),
            ):
                yield parts
        except CallError as error:
            raise (await _native(error)) from None

    async def close(self) -> None:
        """Nothing: the pool closes its clients."""


class SdkWire:
    """Over a kept client of the SDK, for what only the SDK can do."""

    def __init__(self, where: Where) -> None:
        own = {} if "http_client" in where.client_configs else {"http_client": DefaultAioHttpClient()}
        self._sdk = sdk_client(where, **own)
        self._closes = bool(own)

    async def post(self, letter: Letter) -> bytes:
        """The body of the reply."""
        options: Any = {
            "headers": dict(letter.headers),
            "params": dict(letter.query),
            "timeout": letter.timeout_s,
        }
        with _rebuildable():
            response = await self._sdk.post(
                letter.path, cast_to=httpx2.Response, body=orjson.loads(letter.body), options=options
            )
        return response.content

    @asynccontextmanager
    async def stream(self, letter: Letter) -> AsyncIterator[Parts]:
        """The reply as it comes."""
        body = orjson.loads(letter.body)
        call: Any = self._sdk.chat.completions.with_streaming_response.create
        with _rebuildable():
            async with call(
                model=body.pop("model"),
                messages=body.pop("messages"),
                stream=body.pop("stream"),
                extra_body=body,
                extra_headers=dict(letter.headers),
                extra_query=dict(letter.query),
                timeout=letter.timeout_s,
            ) as response:
                yield Parts(response.headers, response.iter_bytes())

    async def close(self) -> None:
        """Close the client, unless its transport is the caller's."""
        if self._closes:
            await self._sdk.close()


async def _native(error: CallError) -> Exception:
    """The SDK's exception for a failed call."""
    native = await error.as_openai()
    return _sorted_out(native) if isinstance(native, openai.APIError) else native


@contextmanager
def _rebuildable() -> Iterator[None]:
    try:
        yield
    except openai.APIError as error:
        sorted_out = _sorted_out(error)
        if sorted_out is error:
            raise
        raise sorted_out from error


def _sorted_out(error: openai.APIError) -> Exception:
    if isinstance(error, openai.BadRequestError) and could_not_be_parsed(error):
        return TransientBadRequestError(str(error))
    return rebuildable(error)
