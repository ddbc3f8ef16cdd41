"""How answers are kept: JSON bodies compressed, vectors raw, and the text beside them for SQL to read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import zstandard

from corpusmill import replies
from corpusmill.ledger.records import Answer

_LEVEL = 3


def rows(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as rows, but for their time."""
    return [_row(answer) for answer in answers]


def body_of(stored: bytes, *, vector: bool) -> bytes:
    """The body as it was given to the ledger."""
    return stored if vector else _own.decompressor.decompress(stored)


def clean(text: str) -> str:
    """`text` as both databases take it: PostgreSQL has no NUL, and neither has lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _row(answer: Answer) -> dict[str, Any]:
    reply = _json(answer.body)
    vector = reply is None
    return {
        "key": answer.key,
        "vector": vector,
        "body": answer.body if vector else _own.compressor.compress(answer.body),
        "output": None if vector else _output(reply),
        "model": answer.model,
        "tier": answer.tier,
        "finish_reason": answer.finish_reason,
        "truncated": answer.truncated,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "completion_tokens": answer.completion_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
    }


def _json(body: bytes) -> Any | None:
    """The JSON object in `body`; None for a vector, whose bytes never spell one."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        return replies.loads(body)
    except ValueError:
        return None


def _output(reply: Any) -> str | None:
    found = replies.text_in(reply)
    found = replies.tool_calls_in(reply) if found is None else found
    return None if found is None else clean(found)


class _Own(threading.local):
    """A compressor and a decompressor a thread: they must not be shared."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_own = _Own()
