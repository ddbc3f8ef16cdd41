"""The answer to an admitted request: its bytes, and what goes on the bill for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from corpusmill.simulator import completions
from corpusmill.simulator.asks import Ask
from corpusmill.simulator.streaming import events


@dataclass(slots=True)
class Answer:
    """A paid answer. `digests`: 8 bytes an input. `events`: a stream, then `body` is empty."""

    body: bytes
    digests: Sequence[bytes]
    prompt_tokens: int
    completion_tokens: int
    events: list[bytes] | None = None


def answer(ask: Ask, *, dimensions: int, fault: str | None) -> Answer:
    """Make the answer; `dimensions` where the request names none; `fault` spoils it if it is of such a kind."""
    made = _completion(ask, fault) if ask.kind == "completion" else _embedding(ask, dimensions, fault)
    if fault == "bad_json":
        made.body = made.body[: len(made.body) * 2 // 3]
    return made


def _completion(ask: Ask, fault: str | None) -> Answer:
    made, usage = completions.completion(ask, fault)
    streamed: list[bytes] | None = None
    if ask.body.get("stream"):
        options = ask.body.get("stream_options") or {}
        streamed = events(made, include_usage=bool(options.get("include_usage")))
        if fault == "bad_json":
            streamed[-2] = streamed[-2][: len(streamed[-2]) // 2] + b"\n\n"
    body = b"" if streamed else orjson.dumps(made)
    return Answer(body, (ask.digest[:8],), usage["prompt_tokens"], usage["completion_tokens"], streamed)


def _embedding(ask: Ask, dimensions: int, fault: str | None) -> Answer:
    # numpy takes a tenth of a second to load, and most simulators never embed.
    from corpusmill.simulator import embeddings

    asked = ask.body.get("dimensions")
    digests = [embeddings.digest(ask.model, text) for text in ask.texts]
    body = embeddings.reply_body(ask, digests, asked or dimensions, fault)
    # Another length is another purchase.
    paid_for = digests if asked is None else [embeddings.digest(f"{ask.model}/{asked}", text) for text in ask.texts]
    return Answer(body, paid_for, ask.prompt_tokens, 0)
