"""What a caller of the embedding functions asks for, as the body of one request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from corpusmill.spec import EMBEDDINGS_PATH, key_of_body

_TRUE = ("true", "1", "yes")
_FALLBACK_ENCODING = "cl100k_base"


@dataclass(frozen=True, slots=True)
class Pack:
    """Texts to embed with one model."""

    model: str
    texts: Sequence[str]
    dimensions: int | None = None
    use_cache: bool = True

    def only(self, texts: Sequence[str]) -> Pack:
        """The same for other texts."""
        return replace(self, texts=texts)

    def keys(self, endpoint: str) -> list[bytes]:
        """The content key of each text at an endpoint.

        Raises:
            TypeError: a text that is none, or holds half a surrogate pair.
        """
        return [key_of_body(endpoint, EMBEDDINGS_PATH, self._body([text])) for text in self.texts]

    def wire(self) -> bytes:
        """The request for all texts as bytes."""
        form = "base64" if os.environ.get("EMBEDDING_USE_BASE64", "true").lower() in _TRUE else "float"
        return orjson.dumps({**self._body(list(self.texts)), "encoding_format": form})

    def _body(self, texts: list[str]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "input": texts}
        return body if self.dimensions is None else {**body, "dimensions": self.dimensions}


def prefixed(texts: Sequence[str], context: str, *, query: str | None, document: str | None) -> Sequence[str]:
    """The texts with the prefix of their context, if that has one."""
    prefix = {"query": query, "document": document}.get(context)
    return [prefix + text for text in texts] if prefix else texts


def cut(texts: Sequence[str], model: str, limit: int | None) -> Sequence[str]:
    """The texts with at most `limit` tokens each; None or 0: as they are. No text can make it fail."""
    if not limit or all(len(text.encode(errors="replace")) <= limit for text in texts):
        return texts  # no token is shorter than a byte
    from tiktoken.model import encoding_name_for_model

    from corpusmill.tokens import encoding, encoding_for

    try:
        encoding_name_for_model(model)
        chosen = encoding_for(model)
    except KeyError:
        chosen = encoding(_FALLBACK_ENCODING)
    return [chosen.truncate(text, limit) if text else text for text in texts]
