"""What clients and supervisor say to each other: one JSON object a line, over the 0600 socket.

client      {"hello": VERSION}            supervisor  {"ready": {pid, version, broker_url, …}} or {"error": [lines]}
            {"providers": [{…}, …]}
            {"attach": ID}  {"detach": ID}
            {"up": {"workers": N}}                    {"state": {…}}
            {"state": true}                           {"state": {…}}
            {"down": true}                            {"stopping": REASON}, to every client
"""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

LONGEST_LINE = 1 << 20


def line(message: dict[str, Any]) -> bytes:
    """A message as it goes over the wire."""
    return orjson.dumps(message) + b"\n"


class Wire:
    """A client's end, blocking with deadlines."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    @classmethod
    def open(cls, path: Path) -> Wire | None:
        """Connect, or None when nobody listens there."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(5.0)
            connection.connect(str(path))
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone.
        """
        self._socket.sendall(line(message))

    def receive(self, *, within_s: float) -> dict[str, Any] | None:
        """The next message, or None when there is none in time (0: only what is there already).

        Raises:
            EOFError: the other end is gone.
        """
        deadline = time.monotonic() + within_s
        while b"\n" not in self._buffer:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._socket], [], [], left_s)[0]:
                return None
            self._fill()
        text, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        message: dict[str, Any] = orjson.loads(text)
        return message

    def _fill(self) -> None:
        try:
            chunk = self._socket.recv(65536)
        except OSError as error:
            raise EOFError from error
        if not chunk:
            raise EOFError
        self._buffer += chunk

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
