"""A line file in blocks of whole lines, so that several processes can read it, each with its line numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from corpusmill.intake.opening import BOM, LONGEST_LINE, numbered_lines, skip_line
from corpusmill.intake.shapes import BadLine

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, the last of them not blank. `number` is that of the first.

    `blank`: the first of the blank lines that stand right before it, if some do.
    """

    number: int
    data: bytes
    blank: int | None = None

    @property
    def last(self) -> int:
        """The number of its last line."""
        return self.number + _lines_in(self.data) - 1

    def lines(self) -> Iterator[tuple[int, bytes] | BadLine]:
        """Its lines as `numbered_lines` gives those of a file."""
        return numbered_lines(io.BytesIO(self.data), self.number, self.blank)


def blocks(stream: BinaryIO, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """All of a file, about `size` bytes at a time; blank lines at its end are nothing."""
    number, blank = 1, None
    while data := _whole_lines(stream, size):
        count = _lines_in(data)
        sound = _without_blank_end(data, number)
        if sound:
            yield Block(number, sound, blank)
            blank = None
        if (kept := _lines_in(sound)) < count:
            blank = blank or number + kept
        number += count


def _whole_lines(stream: BinaryIO, size: int) -> bytes:
    """The next lines; of a line that is too long to hold, as much as shows that it is."""
    data = stream.read(size)
    if not data or data.endswith(b"\n"):
        return data
    rest = stream.readline(LONGEST_LINE + 1)
    if len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
        skip_line(stream)
    return data + rest


def _lines_in(data: bytes) -> int:
    return data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))


def _without_blank_end(data: bytes, number: int) -> bytes:
    """Up to the last line that is not blank: whether blank lines count, only the block after them says."""
    if number == 1 and not data.removeprefix(BOM).strip():
        return b""
    end = data.find(b"\n", len(data.rstrip()))
    return data if end < 0 else data[: end + 1] if data.strip() else b""
