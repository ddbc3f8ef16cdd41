"""Many texts, one request: a pack of texts becomes vectors, one answer each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from corpusmill.endpoint import Endpoint
from corpusmill.ledger.records import Answer
from corpusmill.llm import embed
from corpusmill.shares import shares
from corpusmill.spec import JobSpec
from workers.held import Unit
from workers.work import Facts, Reading

# Of a vector as it travels: float32 in base64 and what JSON puts round it. How many dimensions a model has that was not
# asked for some is seen in its replies only; most have these.
_DIMENSIONS, _BYTES_A_DIMENSION, _BYTES_A_VECTOR = 1_536, 16 / 3, 60


class Embeddings:
    """Texts to be embedded; the spec is that of any of the jobs in a pack, which have the same shape."""

    def __init__(self, spec: JobSpec) -> None:
        self.path, self._spec = spec.path, spec
        self._vector_bytes = int((spec.dimensions or _DIMENSIONS) * _BYTES_A_DIMENSION) + _BYTES_A_VECTOR

    def facts(self, units: Sequence[Unit]) -> Facts:
        """The sums over the pack; embeddings have no output."""
        tokens = sum(unit.item.tokens for unit in units)
        chars = sum(len(unit.item.text or "") for unit in units)
        return Facts(tokens, 0, chars, len(units) * self._vector_bytes)

    def body(self, units: Sequence[Unit], endpoint: Endpoint) -> bytes:
        """The texts in order, vectors asked for in base64."""
        return embed.body(self._spec, [unit.item.text or "" for unit in units])

    def read(self, body: bytes, units: Sequence[Unit]) -> Reading:
        """One answer a text: its row as little-endian float32 bytes, and its share of the tokens billed."""
        embedded = embed.parse(body, len(units), self._spec.dimensions)
        rows = embedded.vectors.astype("<f4", copy=False)
        tokens = shares(embedded.tokens.prompt, [unit.item.tokens for unit in units])
        model = embedded.model or self._spec.model
        answers = [_answer(unit, row, model, share) for unit, row, share in zip(units, rows, tokens, strict=True)]
        return Reading(answers, embedded.model, None, embedded.tokens)


def _answer(unit: Unit, row: np.ndarray[tuple[int], np.dtype[np.float32]], model: str, tokens: int) -> Answer:
    return Answer(
        key=unit.item.key,
        body=row.tobytes(),
        model=model,
        tier=None,
        finish_reason=None,
        prompt_tokens=tokens,
        completion_tokens=0,
    )
