"""The last requests as they came over the wire, for tests of what a client really sends."""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from corpusmill.simulator.messages import Request

_KEPT_BYTES = 16 * 2**20
_KEPT_REQUESTS = 1000


class Recorder:
    """Keeps the newest requests: at most 1,000, at most 16 MiB of bodies."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Request]] = deque()
        self._bytes = 0

    def add(self, number: int, request: Request) -> None:
        """Keep a request under its number."""
        self._kept.append((number, request))
        self._bytes += len(request.body)
        while self._bytes > _KEPT_BYTES or len(self._kept) > _KEPT_REQUESTS:
            self._bytes -= len(self._kept.popleft()[1].body)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The newest `count` requests, oldest first: number, method, path, headers (lower-case names), body."""
        newest = list(self._kept)[-count:] if count > 0 else []
        return [{"number": number, **_shown(request)} for number, request in newest]


def _shown(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        body = request.body.decode(errors="replace")
    headers = {name.decode().lower(): value.decode(errors="replace") for name, value in request.headers}
    return {"method": request.method, "path": request.target, "headers": headers, "body": body}
