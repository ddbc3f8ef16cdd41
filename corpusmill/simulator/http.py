"""The bytes on a connection: requests are read by httptools, replies written as they stand.

No framework: between a request's last byte and its reply's first lies only the endpoint. One request of a
connection is answered at a time, those behind it wait, as HTTP/1.1 has it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import cast

import httptools

from corpusmill.simulator import delivery
from corpusmill.simulator.endpoint import Endpoint
from corpusmill.simulator.messages import Pending, Reply, Request

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop, opened: set[Connection]) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._opened = opened
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False
        self._hanging = False
        self._transport: asyncio.Transport | None = None
        self.on_message_begin()

    def close(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write to."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection. An answer under way is still made and billed: the endpoint had begun with it."""
        self._transport = None
        self._opened.discard(self)
        self._waiting.clear()
        if self._hanging:
            self._endpoint.bill.left()

    def data_received(self, data: bytes) -> None:
        """Read on; what is whole comes out through the callbacks below."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.write(_BAD_REQUEST)
                self._transport.close()

    # --- what httptools calls -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """The request's target, or a piece of it."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name, value))
        if len(name) == 6 and name.lower() == b"expect" and self._transport is not None:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, self._target.decode("latin-1"), self._headers, body)
        self._waiting.append((request, self._parser.should_keep_alive()))
        self._go_on()

    # --- answering ----------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        while self._waiting and not self._busy:
            request, keep_alive = self._waiting.popleft()
            outcome = self._endpoint.receive(request)
            if isinstance(outcome, Reply):
                self._send(outcome, keep_alive)
            elif outcome.latency_s:
                self._busy = True
                self._loop.call_later(outcome.latency_s, self._finish, outcome, keep_alive)
            else:
                self._send(outcome.finish(), keep_alive)

    def _finish(self, pending: Pending, keep_alive: bool) -> None:
        self._busy = False
        self._send(pending.finish(), keep_alive)
        self._go_on()

    def _send(self, reply: Reply, keep_alive: bool) -> None:
        transport = self._transport
        kind = reply.fault.kind if reply.fault else None
        if kind == "hang":
            self._busy = self._hanging = True
            if transport is None:
                self._endpoint.bill.left()
        elif transport is None or transport.is_closing():
            return
        elif kind in delivery.KINDS and reply.fault is not None:
            self._busy = True
            delivery.spoil(reply, reply.fault, transport, self._loop, then=partial(self._sent, keep_alive))
        else:
            transport.write(delivery.encoded(reply, keep_alive))
            if not keep_alive:
                transport.close()

    def _sent(self, keep_alive: bool) -> None:
        self._busy = False
        if keep_alive:
            self._go_on()
        elif self._transport is not None:
            self._transport.close()
