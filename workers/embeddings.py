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


class Embeddings:
    """Texts to be embedded; the spec is that of any of the jobs in a pack, which have the same shape."""

    def __init__(self, spec: JobSpec) -> None:
        self.path, self._spec = spec.path, spec

    def facts(self, units: Sequence[Unit]) -> Facts:
        """The sums over the pack; embeddings have no output."""
        return Facts(sum(unit.item.tokens for unit in units), 0, sum(len(unit.item.text or "") for unit in units))

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
