"""Ask for vectors and read them: base64 in, one `numpy.frombuffer` out, every row where its text was.

Decoding is the cost of embedding: as JSON floats through the SDK a core reads 150 vectors a second, as raw base64
tens of thousands, and hundreds of thousands when the JSON parser never sees the base64.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from corpusmill.llm.complete import billed_or_refused, reply_object
from corpusmill.llm.errors import CallError
from corpusmill.llm.usage import Billed, Tokens
from corpusmill.spec import JobSpec

Vectors = NDArray[np.float32]
Base64 = str | memoryview

_OPENING = re.compile(rb'"embedding"\s*:\s*"')


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
    reply = _reply_with_vectors(reply_body)
    billed = billed_or_refused(reply)
    return Embedded(vectors_in(reply, count, dimensions, billed), billed.model, billed.tokens)


def _reply_with_vectors(body: bytes) -> Mapping[str, Any]:
    """The reply as an object, its base64 left where it lies: to parse it as JSON takes longer than to decode it."""
    frame, vectors = _cut(body)
    reply = reply_object(frame)
    data = reply.get("data")
    fits = isinstance(data, list) and len(data) == len(vectors)
    if not fits or not all(isinstance(each, dict) and each.get("embedding") == "" for each in data or ()):
        return reply_object(body)
    for each, vector in zip(data or (), vectors, strict=True):
        each["embedding"] = vector
    return reply


def _cut(body: bytes) -> tuple[bytes, list[memoryview]]:
    """The reply with every vector in base64 replaced by an empty string, and these vectors in their order."""
    whole, at = memoryview(body), 0
    frame, vectors = [], []
    while (opening := _OPENING.search(body, at)) and (end := body.find(b'"', opening.end())) >= 0:
        frame.append(whole[at : opening.end()])
        vectors.append(whole[opening.end() : end])
        at = end
    frame.append(whole[at:])
    return b"".join(frame), vectors


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
        if all(isinstance(each, Base64) for each in embeddings):
            return _from_base64(embeddings)
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused below
            vectors = np.array(embeddings, dtype=np.float32)
    except (ValueError, TypeError, binascii.Error):
        raise _bad("vectors that cannot be read", billed) from None
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise _bad("vectors of unlike length", billed)
    return vectors


def _from_base64(embeddings: list[Base64]) -> Vectors:
    try:
        rows = [pybase64.b64decode(each, validate=True) for each in embeddings]
    except binascii.Error:
        rows = [_unusual(each) for each in embeddings]
    width = len(rows[0])
    if width == 0 or width % 4 or any(len(row) != width for row in rows):
        raise ValueError("rows of unlike length")
    # Little-endian on the wire, whatever this machine is.
    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), width // 4).astype(np.float32, copy=False)


def _unusual(embedding: Base64) -> bytes:
    """Base64 with line breaks, or with slashes that JSON has escaped, as some gateways write it."""
    text = orjson.loads(b'"%b"' % bytes(embedding)) if isinstance(embedding, memoryview) else embedding
    return binascii.a2b_base64(text)


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
