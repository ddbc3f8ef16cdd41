"""What programs take from `lightrag.utils` to use with the OpenAI functions; its other names are passed on."""

from __future__ import annotations

from typing import Any

from corpusmill.lightrag.embedding_func import EmbeddingFunc, wrap_embedding_func_with_attrs
from corpusmill.lightrag.kin import of_lightrag
from corpusmill.lightrag.tracker import TokenTracker
from corpusmill.lightrag.truncated import TruncatedResponse

__all__ = ["EmbeddingFunc", "TokenTracker", "TruncatedResponse", "wrap_embedding_func_with_attrs"]


def __getattr__(name: str) -> Any:
    return of_lightrag("lightrag.utils", name, asked=__name__)
