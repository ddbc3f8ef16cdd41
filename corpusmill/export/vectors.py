"""Embeddings as a NumPy array in a file, any number of them, written without NumPy and without holding them.

The array's header names the number of rows, which is known only at the end while a job still runs; so room is
left for it and it is filled in last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from corpusmill.errors import CorpusmillError
from corpusmill.export.lines import index, line
from corpusmill.export.rows import Row, body_of

# Fits any shape; NumPy wants the data at a multiple of 64.
_HEADER_BYTES = 128
_FLOAT_BYTES = 4


def write_array(vectors: BinaryIO, index_file: BinaryIO, rows: Iterable[Row], *, dimensions: int | None) -> int:
    """Write an array of shape (N, D), float32, and a line an array row into the index; returns N.

    `dimensions` is D for an array without rows; otherwise the vectors say it themselves.
    """
    vectors.write(bytes(_HEADER_BYTES))
    size, count = None, 0
    for count, row in enumerate(rows, start=1):
        body = body_of(row)
        if size is None:
            size = len(body)
        elif len(body) != size:
            raise CorpusmillError(
                f"the vector of {row.id} has {len(body) // _FLOAT_BYTES} numbers, not {size // _FLOAT_BYTES} as before",
                where=f"item {row.item_no}",
            )
        vectors.write(body)
        index_file.write(line(index(count - 1, row)))
    vectors.seek(0)
    vectors.write(header(count, (dimensions or 0) if size is None else size // _FLOAT_BYTES))
    return count


def header(rows: int, columns: int) -> bytes:
    """The header of a `.npy` file (format 1.0) for little-endian float32, row after row."""
    facts = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return start + facts.ljust(_HEADER_BYTES - 11).encode("ascii") + b"\n"
