"""A reply as bytes, and the ways in which those bytes get lost."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus

from corpusmill.simulator.faults import Fault
from corpusmill.simulator.messages import Reply

KINDS = frozenset({"drip", "reset", "lost_reply", "truncated_body"})

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {498: "Capacity Exceeded", 529: "Overloaded"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _PHRASES.items()}
_DRIP_S = 0.5


def encoded(reply: Reply, keep_alive: bool = True) -> bytes:
    """The whole reply as HTTP/1.1; a stream goes in chunks, one an event."""
    close = b"" if keep_alive else b"connection: close\r\n"
    if reply.events is not None:
        head = b"%bcontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n%b%b\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in reply.events)
        return head % (_STATUS_LINES[reply.status], reply.headers, close) + chunks + b"0\r\n\r\n"
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        _STATUS_LINES[reply.status],
        reply.content_type,
        len(reply.body),
        reply.headers,
        close,
        reply.body,
    )


def spoil(
    reply: Reply,
    fault: Fault,
    transport: asyncio.Transport,
    loop: asyncio.AbstractEventLoop,
    *,
    then: Callable[[], None],
) -> None:
    """Send `reply` as `fault` has it; `then` is called once the connection is good for another request."""
    if fault.kind == "drip":
        seconds = _DRIP_S if fault.seconds is None else fault.seconds
        _drip(encoded(reply), 0, seconds, transport, loop, then)
    elif fault.kind == "truncated_body":
        whole = encoded(reply)
        body_at = whole.index(b"\r\n\r\n") + 4
        transport.write(whole[: body_at + (len(whole) - body_at) // 2])
        transport.close()
    else:
        _reset(transport)


def _drip(
    data: bytes,
    sent: int,
    seconds: float,
    transport: asyncio.Transport,
    loop: asyncio.AbstractEventLoop,
    then: Callable[[], None],
) -> None:
    if transport.is_closing():
        return
    transport.write(data[sent : sent + 1])
    if sent + 1 == len(data):
        then()
    else:
        loop.call_later(seconds, _drip, data, sent + 1, seconds, transport, loop, then)


def _reset(transport: asyncio.Transport) -> None:
    # Lingering for no time: the kernel sends RST where a plain close sends FIN.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
