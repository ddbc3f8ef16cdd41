"""Embeddings: a unit vector that follows from model and text, whatever pack the text comes in.

The components are the sum of two stretches of one table of normal numbers, chosen by the text's hash: 2^32 vectors
at a few microseconds each. As with real models any two texts are somewhat alike (cosine about 0.35), so that a search
with a threshold finds something. Fewer dimensions are the first ones, normalised again, as with OpenAI's models.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from corpusmill.simulator.asks import Ask

_TABLE_SIZE = 65536


def digest(model: str, text: str) -> bytes:
    """Eight bytes that stand for a text under a model."""
    return hashlib.blake2b(f"{model}\n{text}".encode(errors="surrogatepass"), digest_size=8).digest()


def vectors(digests: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """The vectors of texts with these digests: shape (len(digests), dimensions), float32, unit length."""
    table = _table(dimensions)
    starts = np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, 2) % _TABLE_SIZE
    found = np.empty((len(digests), dimensions), dtype="<f4")
    for row, (first, second) in zip(found, starts.tolist(), strict=True):
        np.add(table[first : first + dimensions], table[second : second + dimensions], out=row)
    found += _shared(dimensions)
    # float64: the squares of 16,384 numbers, summed in float32, lose the fourth digit.
    norms = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64))
    found /= norms[:, None].astype(np.float32)
    return found


def reply_body(ask: Ask, digests: Sequence[bytes], dimensions: int, fault: str | None = None) -> bytes:
    """The reply as JSON, in base64 or as numbers as asked for; `fault` is one of the kinds that spoil an embedding."""
    rows = vectors(digests, dimensions)
    if fault == "nan":
        rows[len(rows) // 2, 0] = np.nan
    order = list(range(len(rows)))
    if fault == "shuffled":
        order.reverse()
    elif fault == "short_data":
        order.pop()
    elif fault == "empty":
        order.clear()
    # One component less, in the last vector alone: a check of the first would not see it.
    lengths = {order[-1]: dimensions - 1} if fault == "wrong_dim" else {}
    as_text = _base64 if ask.body.get("encoding_format") == "base64" else _numbers
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (i, as_text(rows[i, : lengths.get(i)])) for i in order
    )
    return b'{"object":"list","data":[%b],"model":%b%b}' % (data, orjson.dumps(ask.model), _usage(ask, fault))


def _usage(ask: Ask, fault: str | None) -> bytes:
    if fault == "no_usage":
        return b""
    return b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (ask.prompt_tokens, ask.prompt_tokens)


def _base64(row: NDArray[np.float32]) -> bytes:
    return b'"%b"' % b2a_base64(row.data, newline=False)


def _numbers(row: NDArray[np.float32]) -> bytes:
    values: Any = np.ascontiguousarray(row)
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


@cache
def _shared(dimensions: int) -> NDArray[np.float32]:
    return _table(dimensions)[-dimensions:] * np.float32(1.05)


@cache
def _table(dimensions: int) -> NDArray[np.float32]:
    # One sequence, whatever its length: the vectors of two dimensions begin alike.
    numbers = np.random.Generator(np.random.Philox(20260101)).standard_normal(_TABLE_SIZE + 16384, dtype=np.float32)
    return numbers[: _TABLE_SIZE + dimensions]
