"""LightRAG's wrapper around an embedding function, usable without LightRAG and taken by it for its own."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Embed = Callable[..., Awaitable[NDArray[np.float32]]]
_DEEPEST = 3


@dataclass
class EmbeddingFunc:
    """An embedding function with what LightRAG has to know of it.

    `func` is the function itself; a wrapped one is unwrapped, so that the outer settings count. `embedding_dim` is
    passed to it only if `send_dimensions`, `context` only if `supports_asymmetric`.
    """

    embedding_dim: int
    func: Embed
    max_token_size: int | None = None
    send_dimensions: bool = False
    model_name: str | None = None
    supports_asymmetric: bool = False

    def __post_init__(self) -> None:
        for _ in range(_DEEPEST):
            if not isinstance(self.func, EmbeddingFunc) and not _is_lightrags(self.func):
                return
            log.warning("an embedding function was wrapped twice; the outer settings count")
            self.func = cast(EmbeddingFunc, self.func).func
        if isinstance(self.func, EmbeddingFunc):
            raise ValueError(f"an embedding function is wrapped more than {_DEEPEST} times")

    async def __call__(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        """Embed; the texts come first.

        Raises:
            ValueError: not one vector of `embedding_dim` a text came back.
        """
        if self.send_dimensions:
            kwargs["embedding_dim"] = self._own_dimensions(kwargs.get("embedding_dim"))
        if not self.supports_asymmetric:
            kwargs.pop("context", None)
        if self.max_token_size is not None and "max_token_size" in inspect.signature(self.func).parameters:
            kwargs.setdefault("max_token_size", self.max_token_size)
        vectors = await self.func(*args, **kwargs)
        self._check(vectors, args[0] if args else None)
        return vectors

    def _own_dimensions(self, asked: int | None) -> int:
        if asked not in (None, self.embedding_dim):
            log.warning("embedding_dim=%s is ignored; the function is declared with %d", asked, self.embedding_dim)
        return self.embedding_dim

    def _check(self, vectors: NDArray[np.float32], texts: Any) -> None:
        if vectors.size % self.embedding_dim:
            raise ValueError(
                f"Embedding dimension mismatch detected: total elements ({vectors.size}) cannot be evenly divided by "
                f"expected dimension ({self.embedding_dim})."
            )
        count = vectors.size // self.embedding_dim
        if isinstance(texts, list | tuple) and count != len(texts):
            raise ValueError(f"Vector count mismatch: expected {len(texts)} vectors but got {count} vectors.")

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """LightRAG's own class, once it is loaded: it unwraps, copies and checks by `isinstance`."""
        return _lightrags_class() or EmbeddingFunc


def wrap_embedding_func_with_attrs(**attributes: Any) -> Callable[[Embed], EmbeddingFunc]:
    """A decorator that makes an `EmbeddingFunc`; `supports_asymmetric` unless given: it takes a `context`."""

    def wrapped(func: Embed) -> EmbeddingFunc:
        takes_context = "context" in inspect.signature(func).parameters
        return EmbeddingFunc(func=func, **{"supports_asymmetric": takes_context, **attributes})

    return wrapped


def _lightrags_class() -> type | None:
    found = getattr(sys.modules.get("lightrag.utils"), "EmbeddingFunc", None)
    return found if isinstance(found, type) else None


def _is_lightrags(func: Any) -> bool:
    theirs = _lightrags_class()
    return theirs is not None and isinstance(func, theirs)
