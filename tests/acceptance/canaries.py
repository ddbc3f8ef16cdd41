"""Looking for what must not be seen: everything that a queue, a disk, a monitor or a terminal is told, as bytes."""

from __future__ import annotations

import base64
import binascii
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import orjson
import redis

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


def unfolded(data: bytes) -> bytes:
    """The bytes and, behind them, what in them is base64: Celery sends its messages so."""
    found = [data]
    for match in _BASE64.findall(data):
        try:
            found.append(base64.b64decode(match + b"=" * (-len(match) % 4)))
        except binascii.Error:
            continue
    return b"\n".join(found)


class Eavesdropper:
    """Hears every command that a queue is sent, and sees all that it holds, for as long as the block lasts."""

    def __init__(self, address: str | tuple[str, int], password: str | None = None) -> None:
        url = f"unix://{address}" if isinstance(address, str) else f"redis://{address[0]}:{address[1]}"
        self._client = redis.Redis.from_url(url, password=password, socket_timeout=60)
        self._socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self._socket.connect(address)
        login = f"AUTH {password}\r\n" if password else ""
        self._socket.sendall(f"{login}MONITOR\r\n".encode())
        self._heard = bytearray()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._client.close()

    def _listen(self) -> None:
        while data := self._socket.recv(1 << 16):
            self._heard += data

    def heard(self) -> bytes:
        """All commands so far, and every key and value that is there now."""
        return unfolded(bytes(self._heard) + repr(list(self._contents())).encode())

    def _contents(self) -> Iterator[tuple[bytes, object]]:
        client = self._client
        read: dict[bytes, Callable[[bytes], object]] = {
            b"string": client.get,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"hash": client.hgetall,
            b"none": repr,  # it went while we looked
        }
        for key in client.scan_iter(count=1_000):
            kind = client.type(key)
            assert isinstance(kind, bytes)
            yield key, read[kind](key)


class Echo(BaseHTTPRequestHandler):
    """An endpoint that refuses everything and quotes it: the key, the headers, the body."""

    status = 400

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        quoted = f"cannot serve {self.headers['authorization']}: {body}"
        error = {"message": quoted, "type": quoted, "code": quoted, "param": quoted, "failed": body}
        reply = orjson.dumps({"error": error})
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.send_header("x-request-id", quoted.replace("\n", " "))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def echo(status: int) -> Iterator[str]:
    """The base URL of an endpoint that answers every request with this status and a quotation."""
    kind = type("Echo", (Echo,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()
