"""One endpoint's client: a long-lived session, raw bytes in and out, and every failure typed.

No retries, no redirects and no parsing here; a call ends within its deadline whatever the endpoint does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter

import aiohttp
import httpx2

from corpusmill.llm.blueprint import Blueprint, Prepared
from corpusmill.llm.broken import CONNECT_S, failure_of
from corpusmill.llm.errors import CallError, classify, facts_of, input_no_of, named
from corpusmill.llm.retry_after import retry_after_s

# Shorter than servers keep an idle connection (uvicorn, under vLLM and gateways: 5 s), because a request that meets
# the server's closing is lost with unknown outcome; longer than any pause in a busy window.
KEEP_ALIVE_S = 4.0

# On an idle connection the other end's machine, not its program, is asked so often; it is gone after so long a silence.
ASK_S, SILENT_S = 10, 30

_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, unparsed. `headers` are found in any case; `latency_s` is from sending to the last byte."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str | None
    latency_s: float


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply that is still coming: its headers, and its body in parts as they arrive."""

    headers: Mapping[str, str] = field(repr=False)
    body: AsyncGenerator[bytes, None] = field(repr=False)


class Client:
    """Calls to one endpoint over one session."""

    def __init__(
        self, blueprint: Blueprint, session: aiohttp.ClientSession, *, timeout_s: float, proxy: str | None = None
    ) -> None:
        self._blueprint = blueprint
        self._session = session
        self._timeout_s = timeout_s
        self._proxy = proxy

    async def call(
        self,
        path: str,
        body: bytes,
        *,
        timeout_s: float | None = None,
        before_body: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        """POST `body` to `path` below the base URL, such as `/chat/completions`, and read the whole reply.

        Args:
            path: where to.
            body: the request.
            timeout_s: bounds all of it, connecting included; None: the endpoint's own.
            before_body: awaited once the head of the reply is there, and before more of it is read.

        Raises:
            CallError: any status but 2xx, no connection, a broken one, or no complete reply in time.
        """
        prepared = await self._blueprint.prepared(path, body)
        started = perf_counter()
        try:
            async with (
                asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s),
                self._session.post(
                    prepared.url, data=body, headers=prepared.headers, proxy=self._proxy, allow_redirects=False
                ) as response,
            ):
                if before_body is not None:
                    await before_body()
                content = await response.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # Without the cause: its text may show a proxy's password.
            raise self._unanswered(path, error) from None
        headers = response.headers
        request_id = prepared.redaction.name(named(headers.get("x-request-id") or headers.get("apim-request-id")))
        reply = Reply(response.status, headers, content, request_id, perf_counter() - started)
        if not 200 <= reply.status < 300:
            raise self._refused(path, prepared, reply)
        return reply

    async def answers(self) -> bool:
        """Whether anybody is there: the list of models, which is free, is asked for; any answer but 5xx will do."""
        prepared = await self._blueprint.prepared("/models", b"{}")
        try:
            async with (
                asyncio.timeout(CONNECT_S),
                self._session.get(
                    prepared.url, headers=prepared.headers, proxy=self._proxy, allow_redirects=False
                ) as response,
            ):
                return response.status < 500
        except (aiohttp.ClientError, OSError):
            return False

    @asynccontextmanager
    async def stream(self, path: str, body: bytes, *, timeout_s: float | None = None) -> AsyncIterator[Parts]:
        """POST `body` and read the reply as it comes; leaving the block early gives the rest up.

        `timeout_s` bounds the wait for the head of the reply, and for each part; None: the endpoint's own.

        Raises:
            CallError: as `call` does, and while the parts are read.
        """
        prepared = await self._blueprint.prepared(path, body)
        within_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(within_s):
                response = await self._session.post(
                    prepared.url, data=body, headers=prepared.headers, proxy=self._proxy, allow_redirects=False
                )
                content = b"" if 200 <= response.status < 300 else await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unanswered(path, error) from None
        try:
            if not 200 <= response.status < 300:
                request_id = prepared.redaction.name(named(response.headers.get("x-request-id")))
                raise self._refused(path, prepared, Reply(response.status, response.headers, content, request_id, 0.0))
            yield Parts(response.headers, self._parts(path, response, within_s))
        finally:
            response.close()

    async def _parts(self, path: str, response: aiohttp.ClientResponse, within_s: float) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(within_s):
                    part = await response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise self._unanswered(path, error) from None
            if not part:
                return
            yield part

    async def close(self) -> None:
        """Close the session and the SDK client."""
        await self._session.close()
        await self._blueprint.close()

    def _refused(self, path: str, prepared: Prepared, reply: Reply) -> CallError:
        facts, redaction = facts_of(reply.body), prepared.redaction
        error = CallError(
            classify(reply.status, facts),
            code=redaction.name(facts.code or facts.type),
            status=reply.status,
            param=redaction.name(facts.param),
            retry_after_s=retry_after_s(reply.headers, facts.message),
            request_id=reply.request_id,
            headers=reply.headers,
            input_no=input_no_of(facts),
        )
        shown = replace(reply, body=redaction.body(reply.body))
        error.sdk_error = lambda: self._blueprint.error(path, lambda request: _played_back(shown, request))
        return error

    def _unanswered(self, path: str, cause: Exception) -> CallError:
        failure, detail = failure_of(cause)
        error = CallError(failure, detail=detail)
        error.sdk_error = lambda: self._blueprint.error(path, lambda request: _raised(failure, request))
        return error


def new_session(*, window: int, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """A session whose connections suffice for `window` calls at once."""
    connector = aiohttp.TCPConnector(
        limit=window,
        keepalive_timeout=KEEP_ALIVE_S,
        ttl_dns_cache=60,
        ssl=tls if tls is not None else True,
        socket_factory=lambda address: watchful(socket.socket(*address[:3])),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        trust_env=False,  # it would add credentials from ~/.netrc; proxies are chosen in `proxies`
    )


def watchful(made: socket.socket) -> socket.socket:
    """Have the kernel ask whether the other end is still there, and break off when it has not answered for long.

    Routers forget connections on which nothing moves: a call that thinks for minutes would wait until its deadline.
    """
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", ASK_S),
        ("TCP_KEEPINTVL", ASK_S),
        ("TCP_USER_TIMEOUT", SILENT_S * 1000),
    ):
        if hasattr(socket, name):  # all of them on Linux
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _played_back(reply: Reply, request: httpx2.Request) -> httpx2.Response:
    """The reply as the SDK's transport would hand it over; the body is unpacked already."""
    headers = [(name, value) for name, value in reply.headers.items() if name.lower() not in _OF_THE_TRANSFER]
    return httpx2.Response(reply.status, headers=headers, content=reply.body, request=request)


def _raised(failure: str, request: httpx2.Request) -> httpx2.Response:
    if failure == "timeout":
        raise httpx2.ReadTimeout("no complete reply in time", request=request)
    raise httpx2.ConnectError("no reply", request=request)
