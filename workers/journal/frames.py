"""Records in a file, so framed that a torn or damaged one costs only itself.

A frame is MAGIC, the payload's length and its CRC-32 (both 4 bytes, little-endian), then the payload.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\xc5mJ1"
_HEAD = struct.Struct("<4sII")


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a file that are no frame: a torn end, or damage when frames follow."""

    start: int
    end: int


def frame(payload: bytes) -> bytes:
    """`payload` as it is appended."""
    return _HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def payloads(data: bytes) -> Iterator[memoryview | Gap]:
    """The payloads in `data` in order, and a `Gap` for whatever lies between them."""
    at = 0
    while at < len(data):
        payload = _payload_at(data, at)
        if payload is None:
            begin, at = at, _next_frame(data, at + 1)
            yield Gap(begin, at)
        else:
            at += _HEAD.size + len(payload)
            yield payload


def _payload_at(data: bytes, at: int) -> memoryview | None:
    if len(data) - at < _HEAD.size:
        return None
    magic, length, crc = _HEAD.unpack_from(data, at)
    begin = at + _HEAD.size
    if magic != MAGIC or length > len(data) - begin:
        return None
    payload = memoryview(data)[begin : begin + length]
    return payload if zlib.crc32(payload) == crc else None


def _next_frame(data: bytes, at: int) -> int:
    """Where the next whole frame begins, or the end of `data`."""
    while (at := data.find(MAGIC, at)) >= 0:
        if _payload_at(data, at) is not None:
            return at
        at += 1
    return len(data)
