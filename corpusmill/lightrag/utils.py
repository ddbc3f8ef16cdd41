"""What programs take from `lightrag.utils` to use with the OpenAI functions; its other names are passed on."""

from __future__ import annotations

from typing import Any

from corpusmill.lightrag.embedding_func import EmbeddingFunc, wrap_embedding_func_with_attrs
from corpusmill.lightrag.tracker import TokenTracker
from corpusmill.lightrag.truncated import TruncatedResponse

__all__ = ["EmbeddingFunc", "TokenTracker", "TruncatedResponse", "wrap_embedding_func_with_attrs"]


def __getattr__(name: str) -> Any:
    """A name that is LightRAG's alone, so that `from lightrag.utils import …` needs no sorting out."""
    from importlib import import_module

    try:
        return getattr(import_module("lightrag.utils"), name)
    except (ImportError, AttributeError):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
