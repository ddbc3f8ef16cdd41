"""What shares one bucket, and what a person may say about its limits."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, Protocol

Priority = Literal["high", "normal", "low"]
Settle = Literal["estimate", "actual"]


class Limits(Protocol):
    """What the endpoint allows the whole fleet; `corpusmill.settings.Limits` is one."""

    @property
    def rpm(self) -> int | None:
        """Requests a minute; None: learnt from the endpoint; 0: no limit."""

    @property
    def tpm(self) -> int | None:
        """Tokens a minute; None: learnt from the endpoint; 0: no limit."""

    @property
    def rpd(self) -> int | None:
        """Requests a day; None and 0: no limit that we keep."""

    @property
    def tpd(self) -> int | None:
        """Tokens a day; None and 0: no limit that we keep."""

    @property
    def requests_window_s(self) -> float:
        """The seconds that the endpoint's headers count requests over."""

    @property
    def burst_s(self) -> float:
        """How much of the rate the endpoint lets pass at once, in seconds."""


# `gpt-6-luna-2026-08-01` counts against the limits of `gpt-6-luna`.
SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|latest)$")


@dataclass(frozen=True, slots=True)
class Scope:
    """All requests under one limit: an endpoint, the fingerprint of the key, and a model with all its snapshots."""

    endpoint: str
    fingerprint: str
    model: str

    def __post_init__(self) -> None:
        """Name the model without its date, so that a family has one scope."""
        object.__setattr__(self, "model", SNAPSHOT.sub("", self.model))

    @property
    def digest(self) -> str:
        """What Redis and the ledger know the scope by."""
        return hashlib.sha256(f"{self.endpoint}\n{self.fingerprint}\n{self.model}".encode()).hexdigest()[:20]

    def key(self, part: str) -> str:
        """The Redis key of one part of the scope's state; all parts lie in one cluster slot."""
        return f"corpusmill:limit:{{{self.digest}}}:{part}"


@dataclass(frozen=True, slots=True)
class Rates:
    """The limits that hold now, a minute; 0 is no limit. `learning`: the endpoint has not told its limits yet."""

    rpm: int
    tpm: int
    learning: bool


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """Leave to send one request of `tokens`. It is settled when the reply is there, or released when never used.

    `at` (seconds, on the process's clock), `level_*` and `lowered_*` say when it was given and how full the bucket was
    then: what the reply's headers are held against.
    `alone`: the fleet's bucket knows nothing of it: Redis was away, or there is no limit.
    """

    tokens: int
    level_requests: int = 0
    level_tokens: int = 0
    lowered_requests: int = 0
    lowered_tokens: int = 0
    at: float = 0.0
    alone: bool = False
