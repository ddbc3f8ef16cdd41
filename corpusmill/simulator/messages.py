"""A request as it came in and a reply as it goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corpusmill.simulator.faults import Fault


@dataclass(slots=True)
class Request:
    """One HTTP request. `target` is path and query; header names are as they came."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str:
        """The value of a header by its lower-case name; empty when it is missing."""
        for found, value in self.headers:
            if len(found) == len(name) and found.lower() == name:
                return value.decode(errors="replace")
        return ""

    def key(self) -> str:
        """The API key: from `Authorization: Bearer`, or Azure's `api-key`."""
        return self.header(b"authorization").removeprefix("Bearer ").strip() or self.header(b"api-key")


@dataclass(slots=True)
class Reply:
    """One HTTP reply. `headers`: further header lines, each ending in CRLF. `events`: a stream, in the body's place."""

    status: int
    body: bytes
    headers: bytes = b""
    content_type: bytes = b"application/json"
    events: list[bytes] | None = None
    fault: Fault | None = None


@dataclass(slots=True)
class Pending:
    """A request that was admitted and takes its time. `finish` makes (and bills) the answer, `latency_s` from now."""

    latency_s: float
    finish: Callable[[], Reply]
