"""The clients of one event loop: one for each distinct endpoint, kept until the pool closes."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self

import httpx2

from corpusmill.endpoint import Endpoint
from corpusmill.llm.blueprint import Blueprint
from corpusmill.llm.client import Client, new_session
from corpusmill.llm.proxies import proxy_for


class ClientPool:
    """Hands out a client for each endpoint. Opened and used in one event loop.

    An `Endpoint` is everything that shapes a session (address, key, Azure deployment and version, headers, proxy,
    time limit), so equal endpoints share one and a rotated key gets its own.
    """

    def __init__(self, window: int = 1000) -> None:
        self._window = window
        self._clients: dict[Endpoint, Client] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clients, self._clients = list(self._clients.values()), {}
        self._loop = None
        for client in clients:
            await client.close()

    def client(self, endpoint: Endpoint) -> Client:
        """The client of `endpoint`, made at its first use."""
        client = self._clients.get(endpoint)
        if client is None:
            client = self._clients[endpoint] = self._made(endpoint)
        return client

    def _made(self, endpoint: Endpoint) -> Client:
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("a client pool is used in the event loop that opened it, while it is open")
        tls = self._trust() if endpoint.base_url.startswith("https") else None
        return Client(
            Blueprint.of(endpoint),
            new_session(window=self._window, tls=tls),
            timeout_s=endpoint.timeout_s,
            proxy=proxy_for(endpoint.base_url, endpoint.proxy),
        )

    async def load_trust(self) -> None:
        """Read the certificates now and in a thread, rather than in the loop before the first call."""
        self._tls = await asyncio.to_thread(httpx2.create_ssl_context)

    def _trust(self) -> ssl.SSLContext:
        """The SDK's own idea of whom to trust (certifi, SSL_CERT_FILE), made once: it takes tens of milliseconds."""
        if self._tls is None:
            self._tls = httpx2.create_ssl_context()
        return self._tls
