"""Ask for vectors and read them: base64 in, one `numpy.frombuffer` out, every row where its text was.

Decoding is the cost of embedding: as JSON floats through the SDK a core reads 150 vectors a second, as raw base64
tens of thousands.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from corpusmill.llm.complete import billed_or_refused, reply_object
from corpusmill.llm.errors import CallError
from corpusmill.llm.usage import Billed, Tokens
from corpusmill.spec import JobSpec

Vectors = NDArray[np.float32]


class Embedded(NamedTuple):
    """The vectors of one request: shape (texts, dimensions), float32, not normalised; `model` empty if not said."""

    vectors: Vectors
    model: str
    tokens: Tokens


def body(spec: JobSpec, texts: Sequence[str]) -> bytes:
    """The request for the vectors of `texts`, in base64."""
    return orjson.dumps({**spec.embedding_body(list(texts)), "encoding_format": "base64"})


def parse(reply_body: bytes, count: int, dimensions: int | None) -> Embedded:
    """Validate the raw reply to a request of `count` texts and decode it.

    `dimensions`: the length that was asked for; None: any, but the same for all.

    Raises:
        CallError: `bad_reply`: not such a reply, another number of vectors, an index twice, another length, a value
            that is not finite, a vector of zeros, or no usage. With `billed` where the reply says what it cost.
    """
    reply = reply_object(reply_body)
    billed = billed_or_refused(reply)
    return Embedded(vectors_in(reply, count, dimensions, billed), billed.model, billed.tokens)


def vectors_in(reply: Mapping[str, Any], count: int, dimensions: int | None, billed: Billed | None = None) -> Vectors:
    """The vectors of a reply to `count` texts, whether it states its usage or not.

    Raises:
        CallError: `bad_reply`, as `parse` does, with `billed`.
    """
    data = _data(reply, count, billed)
    vectors = _decoded([each.get("embedding") for each in data], billed)
    if dimensions is not None and vectors.shape[1] != dimensions:
        raise _bad(f"vectors of {vectors.shape[1]} instead of {dimensions}", billed)
    _must_be_usable(vectors, billed)
    return _in_order(vectors, [each.get("index") for each in data], billed)


def _data(reply: Mapping[str, Any], count: int, billed: Billed | None) -> list[dict[str, Any]]:
    data = reply.get("data")
    if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
        raise _bad("no vectors", billed)
    if len(data) != count:
        raise _bad(f"{len(data)} vectors for {count} texts", billed)
    return data


def _decoded(embeddings: list[Any], billed: Billed | None) -> Vectors:
    """All rows as one array; lists of numbers are read where the endpoint does not speak base64."""
    try:
        if all(isinstance(each, str) for each in embeddings):
            return _from_base64(embeddings)
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused below
            vectors = np.array(embeddings, dtype=np.float32)
    except (ValueError, TypeError, binascii.Error):
        raise _bad("vectors that cannot be read", billed) from None
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise _bad("vectors of unlike length", billed)
    return vectors


def _from_base64(embeddings: list[str]) -> Vectors:
    rows = [binascii.a2b_base64(each) for each in embeddings]
    width = len(rows[0])
    if width == 0 or width % 4 or any(len(row) != width for row in rows):
        raise ValueError("rows of unlike length")
    # Little-endian on the wire, whatever this machine is.
    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), width // 4).astype(np.float32, copy=False)


def _must_be_usable(vectors: Vectors, billed: Billed | None) -> None:
    if not np.isfinite(vectors).all():
        raise _bad("a vector with a value that is not finite", billed)
    if not vectors.any(axis=1).all():
        raise _bad("a vector of zeros", billed)


def _in_order(vectors: Vectors, indices: list[Any], billed: Billed | None) -> Vectors:
    """Row i for text i. Some endpoints number nothing: then the order of the reply is the order of the request."""
    if all(index is None for index in indices):
        return vectors
    expected = list(range(len(indices)))
    if indices == expected:
        return vectors
    if not all(type(index) is int for index in indices) or sorted(indices) != expected:
        raise _bad("vectors whose numbers do not match the texts", billed)
    ordered = np.empty_like(vectors)
    ordered[indices] = vectors
    return ordered


def _bad(detail: str, billed: Billed | None) -> CallError:
    return CallError("bad_reply", detail=detail, billed=billed)
