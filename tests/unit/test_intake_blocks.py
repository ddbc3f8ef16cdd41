"""Blocks of lines: whatever their size, the lines and their numbers are those of the file."""

from __future__ import annotations

import io
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.intake.blocks import blocks
from corpusmill.intake.opening import LONGEST_LINE, numbered_lines
from corpusmill.intake.shapes import BadLine

LINES = st.lists(
    st.sampled_from([b"{}", b"", b" ", b"\t\x0b", b"{} \x0c", b"\xef\xbb\xbf", b"abcdefghij", b"x\r"]), max_size=12
)


@given(LINES, st.booleans(), st.integers(1, 30))
def test_blocks_of_any_size_hold_the_lines_of_the_file_under_their_numbers(
    lines: list[bytes], ends: bool, size: int
) -> None:
    data = b"\n".join(lines) + b"\n" * ends
    cut = list(blocks(io.BytesIO(data), size))
    assert list(chain.from_iterable(block.lines() for block in cut)) == list(numbered_lines(io.BytesIO(data)))


def test_a_line_that_is_too_long_to_hold_is_told_and_the_next_one_has_its_number() -> None:
    data = b"{}\n" + b"x" * (LONGEST_LINE + 5_000_000) + b"\n{}\n"
    read = [line for block in blocks(io.BytesIO(data)) for line in block.lines()]
    assert read[0] == (1, b"{}")
    assert isinstance(read[1], BadLine)
    assert (read[1].line, read[2]) == (2, (3, b"{}"))


@pytest.mark.parametrize("data", [b"", b"\n\n \n", b"\xef\xbb\xbf\n\n"])
def test_a_file_of_blank_lines_has_no_blocks(data: bytes) -> None:
    assert list(blocks(io.BytesIO(data), 2)) == []
