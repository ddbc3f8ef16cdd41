"""What comes back for one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corpusmill.export.rows import body_of
from corpusmill.ledger.records import ResultRow
from corpusmill.replies import loads, output_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one item, in source order.

    `start` and `end` are offsets in the cleaned text of the source. `body` is the endpoint's raw JSON, or
    little-endian float32 for an embedding; the properties read it.
    """

    id: str
    source: str
    chunk: int
    start: int
    end: int
    line: int | None
    metadata: Mapping[str, Any] | None
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached: bool
    body: bytes = field(repr=False)

    @property
    def output(self) -> str:
        """The text of a completion; tool calls as JSON."""
        return output_of(self.body)

    @property
    def reply(self) -> Any:
        """The endpoint's whole reply to a completion or a request."""
        return loads(self.body)

    @property
    def vector(self) -> NDArray[np.float32]:
        """An embedding, of shape (D,), float32."""
        import numpy as np

        return np.frombuffer(self.body, dtype="<f4")


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that failed for good: what was wrong with it, by class and in redacted words."""

    id: str
    source: str
    chunk: int
    line: int | None
    error_class: str
    error: str
    attempts: int
    request_id: str | None


def result_of(row: ResultRow) -> Result:
    """The result in a row of an item that succeeded."""
    return Result(
        id=row.id,
        source=row.source,
        chunk=row.chunk,
        start=row.start,
        end=row.end,
        line=row.line,
        metadata=row.metadata,
        model=row.model,
        finish_reason=row.finish_reason,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached=row.cached,
        body=body_of(row),
    )


def failure_of(row: ResultRow) -> Failure:
    """The failure in a row of an item that failed."""
    return Failure(
        id=row.id,
        source=row.source,
        chunk=row.chunk,
        line=row.line,
        error_class=row.error_class or "unknown",
        error=row.error or "",
        attempts=row.attempts,
        request_id=row.request_id,
    )
