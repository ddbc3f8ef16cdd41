"""What a job asks of the endpoint, and the content key under which an answer is paid for once.

The same functions build a request at submit, where its key is computed, and in the worker, where it is
sent: two builders would mean two keys for one request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import orjson

Kind = Literal["completion", "embedding", "request"]
COMPLETIONS_PATH = "/chat/completions"
EMBEDDINGS_PATH = "/embeddings"
# An option of request jobs, whose bodies say everything else: a reply that holds only reasoning is an answer.
REASONING_ANSWERS = "reasoning_answers"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything that shapes the requests of a job but the texts themselves.

    `kind` is `request` for a Batch request file, whose bodies pass through untouched.
    `path` is appended to the endpoint's base URL. `endpoint` is what `endpoint_of` gives.
    `options` are merged into a completion's body exactly as they stand; an unset option is absent. A request job has
    none but `REASONING_ANSWERS`.
    """

    kind: Kind
    path: str
    model: str
    endpoint: str
    prompt: str | None = None
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dimensions: int | None = None

    @property
    def queue_kind(self) -> Literal["completion", "embedding"]:
        """Which family of queues the job's shards go to."""
        return "embedding" if self.path.endswith(EMBEDDINGS_PATH) else "completion"

    def completion_body(self, text: str, source: str) -> dict[str, Any]:
        """The body of one chat completion over `text`."""
        messages = [{"role": "user", "content": fill(self.prompt or "", text=text, source=source)}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        return {"model": self.model, "messages": messages, **self.options}

    def embedding_body(self, texts: list[str]) -> dict[str, Any]:
        """The body of one embedding request for `texts`, without an encoding format."""
        body: dict[str, Any] = {"model": self.model, "input": texts}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        return body

    def content_key(self, text: str, source: str) -> bytes:
        """The content key of one item: 32 bytes over everything that shapes its answer, never the API key."""
        if self.kind == "embedding":
            return key_of_body(self.endpoint, self.path, self.embedding_body([text]))
        return key_of_body(self.endpoint, self.path, self.completion_body(text, source))

    def as_json(self) -> dict[str, Any]:
        """For the ledger; `from_json` turns it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobSpec:
        """The spec that `as_json` wrote."""
        return cls(**data)


def fill(template: str, *, text: str, source: str) -> str:
    """Put `text` and `source` where the template says; other braces stay as they are.

    Without `{text}` the text follows after a blank line. Both marks are replaced in one pass: a text
    that contains the word `{source}` is not filled a second time.
    """
    if "{text}" not in template:
        template = f"{template}\n\n{{text}}" if template else "{text}"
    return text.join(part.replace("{source}", source) for part in template.split("{text}"))


def key_of_body(endpoint: str, path: str, body: Mapping[str, Any]) -> bytes:
    """The content key of a request body: sha256 over canonical JSON with the endpoint and the path."""
    head = f"{endpoint}\n{path}\n".encode()
    return hashlib.sha256(head + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def private_key(key: bytes, *, job_key: str, item_no: int) -> bytes:
    """The content key of an item under `--no-cache`: shared with no other item and no other job."""
    return hashlib.sha256(key + f"\n{job_key}\n{item_no}".encode()).digest()


def second_key(key: bytes) -> bytes:
    """Where an answer is kept if under `key` is one that was cut, or that its caller cannot use: kept ones stay."""
    return hashlib.sha256(key + b"\nsecond").digest()


def endpoint_of(base_url: str, *, pool: str | None = None) -> str:
    """The name of an endpoint in keys and jobs: the normalised base URL, or `pool:NAME`."""
    return f"pool:{pool}" if pool else normalised(base_url)


def normalised(base_url: str) -> str:
    """The base URL in the one spelling of keys and jobs: lower-case host, no default port, no slash at the end."""
    parts = urlsplit(base_url.strip())
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    netloc = host if parts.port in (None, default) else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme.lower(), netloc, parts.path.rstrip("/"), parts.query, ""))
