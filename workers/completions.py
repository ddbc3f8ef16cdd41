"""One item, one request: completions over chunks, and the lines of a request file."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from corpusmill.endpoint import Endpoint
from corpusmill.ledger.records import Answer
from corpusmill.limits import facts_of
from corpusmill.llm import complete
from corpusmill.llm.complete import billed_or_refused, reply_object
from corpusmill.llm.usage import Billed
from corpusmill.spec import EMBEDDINGS_PATH, REASONING_ANSWERS, JobSpec
from workers.held import Unit
from workers.work import Facts, Reading


class Completions:
    """Chunks under a job's prompt."""

    def __init__(self, spec: JobSpec) -> None:
        self.path, self._spec = spec.path, spec
        cap = spec.options.get("max_completion_tokens", spec.options.get("max_tokens"))
        self._max_output = cap if isinstance(cap, int) else None
        self._frame_chars = len(spec.prompt or "") + len(spec.system or "")

    def facts(self, units: Sequence[Unit]) -> Facts:
        """Tokens as counted at intake, and the characters of prompt and text."""
        item = units[0].item
        return Facts(item.tokens, self._max_output, self._frame_chars + len(item.text or ""))

    def body(self, units: Sequence[Unit], endpoint: Endpoint) -> bytes:
        """The chat completion of one chunk."""
        item = units[0].item
        body = self._spec.completion_body(item.text or "", item.source)
        if endpoint.max_tokens_name == "max_tokens" and "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")
        return orjson.dumps(body)

    def read(self, body: bytes, units: Sequence[Unit]) -> Reading:
        """A validated completion; the answer keeps the raw body."""
        return _reading(body, units[0])


class Requests:
    """Lines of a request file: their bodies pass untouched, and the endpoint's reply comes back whole."""

    def __init__(self, spec: JobSpec) -> None:
        self.path = spec.path
        self._reasoning_answers = bool(spec.options.get(REASONING_ANSWERS))

    def facts(self, units: Sequence[Unit]) -> Facts:
        """What the body says of itself."""
        item = units[0].item
        max_output, chars = facts_of(orjson.loads(item.body or b"{}"))
        return Facts(item.tokens, max_output, chars)

    def body(self, units: Sequence[Unit], endpoint: Endpoint) -> bytes:
        """The line's body as it stood."""
        return units[0].item.body or b"{}"

    def read(self, body: bytes, units: Sequence[Unit]) -> Reading:
        """A completion is validated as one; of an embedding only that it is a reply with usage."""
        if self.path.endswith(EMBEDDINGS_PATH):
            billed = billed_or_refused(reply_object(body))
            return Reading([_answer(body, units[0], billed)], billed.model, billed.tier, billed.tokens)
        return _reading(body, units[0], reasoning_answers=self._reasoning_answers)


def _reading(body: bytes, unit: Unit, *, reasoning_answers: bool = False) -> Reading:
    done = complete.parse(body, reasoning_answers=reasoning_answers)
    billed = Billed(done.model, done.tier, done.tokens)
    answer = _answer(body, unit, billed, finish_reason=done.finish_reason, truncated=done.truncated)
    return Reading([answer], done.model, done.tier, done.tokens)


def _answer(
    body: bytes, unit: Unit, billed: Billed, *, finish_reason: str | None = None, truncated: bool = False
) -> Answer:
    tokens = billed.tokens
    return Answer(
        key=unit.item.key,
        body=body,
        model=billed.model or unit.shard.job.run.spec.model,
        tier=billed.tier,
        finish_reason=finish_reason,
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        cached_tokens=tokens.cached,
        reasoning_tokens=tokens.reasoning,
        truncated=truncated,
    )
