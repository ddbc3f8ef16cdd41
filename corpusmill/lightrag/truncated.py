"""An answer that the output limit cut off: a string, marked so that no cache keeps it."""

from __future__ import annotations

from corpusmill.lightrag.kin import kin_of_lightrag


class TruncatedResponse(str):
    """A `str` in all respects; only its type says that it is not whole."""

    __slots__ = ()


def truncated(text: str) -> TruncatedResponse:
    """`text`, marked; LightRAG's own caches know the mark too."""
    return kin_of_lightrag(TruncatedResponse, "lightrag.utils")(text)
