"""CSV and TSV: a header, then one record a row; a quoted cell may run over several lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from corpusmill.errors import SourceError
from corpusmill.intake.clean import bad_character, clean
from corpusmill.intake.opening import LONGEST_LINE, blank_line, opened
from corpusmill.intake.records import header_error, record_of
from corpusmill.intake.shapes import BadLine, Reading, Record, SourceFile

_MEND = "mend the row, or leave such rows out: --skip-invalid"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: list[str]
    bad_text: str | None


def read(file: SourceFile, reading: Reading) -> Iterator[Record | BadLine]:
    """The records of a CSV or TSV file. A row's line is the one where it starts.

    Raises:
        SourceError: the header cannot be used; leaving rows out would not help.
    """
    # A setting of the whole process, 128 KiB by default: longer cells would be refused.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    with opened(file) as stream:
        rows = _rows(_Lines(stream), "\t" if file.format == "tsv" else ",")
        header = next(rows, None)
        if header is None:
            return
        names = _names(header, file, reading)
        for row in rows:
            yield row if isinstance(row, BadLine) else _record(row, names, reading)


def _names(header: _Row | BadLine, file: SourceFile, reading: Reading) -> list[str]:
    if isinstance(header, BadLine):
        raise SourceError(header.what, path=str(file.path), line=header.line, next_step="mend the header")
    names = header.cells
    if len(set(names)) < len(names):
        what = "two columns have the same name"
        raise SourceError(what, path=str(file.path), line=1, next_step="rename one of them")
    if wrong := header_error(names, reading):
        raise SourceError(wrong[0], path=str(file.path), line=1, next_step=wrong[1])
    return names


def _record(row: _Row, names: list[str], reading: Reading) -> Record | BadLine:
    if len(row.cells) != len(names):
        return BadLine(row.line, f"{len(row.cells)} cells, but the header has {len(names)}", _MEND)
    return record_of(row.line, dict(zip(names, row.cells, strict=True)), reading, row.bad_text)


def _rows(lines: _Lines, delimiter: str) -> Iterator[_Row | BadLine]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    blank: int | None = None
    while True:
        line, lines.bad = lines.number + 1, None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(line, f"not CSV: {error}", _MEND)
            continue
        if not cells:
            blank = blank or line
            continue
        if blank is not None:
            yield blank_line(blank)
            blank = None
        yield _Row(line, [clean(cell) for cell in cells] if lines.bad else cells, lines.bad)


class _Lines:
    """The lines of a stream as text, for the csv module; `bad` tells what bad text they held since it was reset."""

    def __init__(self, stream: BinaryIO) -> None:
        self.number = 0
        self.bad: str | None = None
        self._stream = stream

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        return self._decoded(line).removeprefix("\ufeff" if self.number == 1 else "")

    def _decoded(self, line: bytes) -> str:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            self.bad = self.bad or f"invalid UTF-8 at byte {error.start:,} of the line"
            text = line.decode("utf-8", errors="replace")
        if "\0" in text:
            self.bad = self.bad or bad_character(text)
        return text
