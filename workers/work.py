"""What differs between kinds of jobs: how items become a request, and how a reply becomes answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from corpusmill.endpoint import Endpoint
from corpusmill.ledger.records import Answer
from corpusmill.llm.usage import Tokens
from workers.held import Unit


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request before it is sent: input tokens, output limit (None: none), characters of input.

    `reply_bytes`: of a reply that is sure to be large, about how large; else 0.
    """

    prompt_tokens: int
    max_output: int | None
    chars: int
    reply_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply that answers: one answer a unit, in their order, and what the endpoint says it served and counted."""

    answers: Sequence[Answer]
    model: str
    tier: str | None
    tokens: Tokens


class Work(Protocol):
    """A kind of job. All units of one request belong to jobs of the same shape."""

    @property
    def path(self) -> str:
        """Where the request is posted, below the base URL."""

    def facts(self, units: Sequence[Unit]) -> Facts:
        """What the request over these units will ask for."""

    def body(self, units: Sequence[Unit], endpoint: Endpoint) -> bytes:
        """The request over these units, in this endpoint's dialect."""

    def read(self, body: bytes, units: Sequence[Unit]) -> Reading:
        """Validate a reply and make answers of it.

        Raises:
            CallError: it does not answer.
        """
