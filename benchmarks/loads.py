"""The work that is measured: chunks of text as intake would have cut them, alike in size and no two the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import orjson

from corpusmill.ledger.records import NewItem
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, JobSpec, Kind

CHAT_MODEL, EMBEDDING_MODEL = "gpt-6-luna", "text-embedding-3-small"
DIMENSIONS = 1536
# The kind of prose that documents are made of; a token is about four characters of it.
_PROSE = (
    "The limiter grants requests and tokens together, so a worker never holds one while it waits for the other. "
    "When a reply arrives its headers say what the endpoint believes is left, and the lower of both counts. "
    "A shard that was given back is sent again by whoever notices first, and its answers are found in the ledger. "
    "Nothing is paid twice for the same text, because the key of an answer names everything that shapes it. "
)
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of work. `tokens` a chunk; `pack`: chunks that share a request, as our packer fills them."""

    name: str
    kind: Kind
    model: str
    path: str
    tokens: int
    pack: int
    shard: int
    prompt: str | None = None

    def spec(self, endpoint: str) -> JobSpec:
        """The job's spec at an endpoint."""
        return JobSpec(self.kind, self.path, self.model, endpoint, prompt=self.prompt)

    def texts(self, count: int, series: str) -> Iterator[str]:
        """`count` chunks; another `series`, other chunks, so that no earlier answer serves."""
        prose = _PROSE * (1 + self.tokens * _CHARACTERS_A_TOKEN // len(_PROSE))
        body = prose[: self.tokens * _CHARACTERS_A_TOKEN]
        return (f"{series} {number}: {body}" for number in range(count))

    def items(self, spec: JobSpec, count: int, series: str) -> Iterator[NewItem]:
        """The chunks as a producer loads them."""
        for number, text in enumerate(self.texts(count, series)):
            source = f"{number}.md"
            key = spec.content_key(text, source)
            yield NewItem(source, source, key, self.tokens, start=0, end=len(text), text=text)

    def bodies(self, count: int, series: str) -> Iterator[bytes]:
        """The requests for the same chunks, as a client without any machinery sends them."""
        spec, texts = self.spec(""), self.texts(count, series)
        if self.kind == "completion":
            return (orjson.dumps(spec.completion_body(text, "")) for text in texts)
        packs = iter(partial(_first, texts, self.pack), [])
        return (orjson.dumps({**spec.embedding_body(pack), "encoding_format": "base64"}) for pack in packs)


def _first(texts: Iterator[str], count: int) -> list[str]:
    return list(islice(texts, count))


CHAT = Load("chat, 300 tokens", "completion", CHAT_MODEL, COMPLETIONS_PATH, 300, 1, 100, "Summarise: {text}")
# 1,500 texts of 200 tokens are the 300,000 tokens that a request may have.
EMBEDDINGS = Load("embeddings, 200 tokens", "embedding", EMBEDDING_MODEL, EMBEDDINGS_PATH, 200, 1_500, 2_000)


def request_line(number: int, tokens: int = 50) -> bytes:
    """One line of a Batch request file."""
    text = f"{number}: {_PROSE}"[: tokens * _CHARACTERS_A_TOKEN]
    body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": text}], "max_completion_tokens": 64}
    return orjson.dumps({"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
