"""The lines of JSON exports: one object a succeeded item."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Any, BinaryIO

import orjson

from corpusmill.export.rows import Row, body_of
from corpusmill.replies import output_of


def write_completions(file: BinaryIO, rows: Iterable[Row]) -> int:
    """Write a line a completion; returns how many."""
    return _write(file, map(completion, rows))


def write_embeddings(file: BinaryIO, rows: Iterable[Row]) -> int:
    """Write a line an embedding, the vector in it as a list; returns how many."""
    return _write(file, map(embedding, rows))


def completion(row: Row) -> dict[str, Any]:
    """What the line of a completion holds."""
    return {
        **_origin(row),
        "output": output_of(body_of(row)),
        "finish_reason": row.finish_reason,
        "model": row.model,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "cached": row.cached,
        "metadata": row.metadata,
    }


def embedding(row: Row) -> dict[str, Any]:
    """What the line of an embedding holds, with its vector."""
    return {**_origin(row), "embedding": floats(body_of(row)).tolist(), **_embedded(row)}


def index(row_no: int, row: Row) -> dict[str, Any]:
    """What the index says of one row of an array of embeddings."""
    return {"row": row_no, **_origin(row), **_embedded(row)}


def floats(body: bytes) -> array[float]:
    """A vector's float32 values, whatever the byte order of this machine."""
    values = array("f", body)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def line(value: dict[str, Any]) -> bytes:
    """A JSON object and the end of its line."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _origin(row: Row) -> dict[str, Any]:
    return {"id": row.id, "source": row.source, "chunk": row.chunk, "start": row.start, "end": row.end}


def _embedded(row: Row) -> dict[str, Any]:
    return {"model": row.model, "prompt_tokens": row.prompt_tokens, "cached": row.cached, "metadata": row.metadata}


def _write(file: BinaryIO, values: Iterable[dict[str, Any]]) -> int:
    count = 0
    for count, value in enumerate(values, start=1):  # noqa: B007
        file.write(line(value))
    return count
