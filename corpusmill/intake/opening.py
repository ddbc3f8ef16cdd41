"""Open a source file, compressed or not, and read its lines with their numbers.

A compressed file that ends too early is an error, not a shorter file; so is one that changed since it was scanned.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from corpusmill.errors import SourceChanged, SourceError
from corpusmill.intake.shapes import BadLine, Compression, SourceFile

LONGEST_LINE = 64 << 20
"""Bytes in one line: more would not stay within the memory that intake promises."""

BOM = b"\xef\xbb\xbf"


@contextmanager
def opened(file: SourceFile) -> Iterator[BinaryIO]:
    """The bytes of `file`, unpacked. Raises SourceError when it cannot be read or is not what was scanned."""
    try:
        with file.path.open("rb") as raw:
            _check_unchanged(file)
            yield unpacked(raw, file.compression)
            _check_unchanged(file)
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise SourceError(
            f"the compressed file is damaged or incomplete: {error}",
            path=str(file.path),
            next_step="fetch or write the file again",
        ) from error
    except FileNotFoundError as error:
        raise SourceChanged(
            "the file went while it was being read", path=str(file.path), next_step="run the command again"
        ) from error
    except OSError as error:
        raise unreadable(file.path, error) from error


def unpacked(raw: BinaryIO, compression: Compression | None) -> BinaryIO:
    """`raw` as it is, or a stream of what it holds."""
    if compression == "gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
    if compression == "zst":
        return io.BufferedReader(_Zstandard(raw), buffer_size=1 << 20)
    return raw


def unreadable(path: Path, error: OSError) -> SourceError:
    """The error for a file that the system will not let us read."""
    return SourceError(
        f"{path} cannot be read: {error.strerror or error}",
        path=str(path),
        next_step="check the path and its permissions",
    )


def numbered_lines(stream: BinaryIO, first: int = 1, blank: int | None = None) -> Iterator[tuple[int, bytes] | BadLine]:
    r"""Number and bytes of each line, without its `\n` or `\r\n`; only `\n` ends a line, not U+2028.

    A blank line is reported once a record follows it; blank lines at the end of a file are nothing.

    Args:
        stream: the lines.
        first: the number of the first of them.
        blank: the number of a blank line that stood before them, and is not reported yet.
    """
    number = first - 1
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            yield too_long(number)
            skip_line(stream)
            continue
        if number == 1:
            line = line.removeprefix(BOM)
        if not line.strip():
            blank = blank or number
            continue
        if blank is not None:
            yield blank_line(blank)
            blank = None
        yield number, line.rstrip(b"\r\n")


def blank_line(number: int) -> BadLine:
    """What is reported for a blank line between records."""
    return BadLine(number, "a blank line between records", "remove the line, or leave such lines out: --skip-invalid")


def too_long(number: int) -> BadLine:
    """What is reported for a line that is too long to hold."""
    return BadLine(
        number, f"the line is longer than {LONGEST_LINE >> 20} MiB", "split the record, or leave it out: --skip-invalid"
    )


def skip_line(stream: BinaryIO) -> None:
    """Go on to the end of the line."""
    while (part := stream.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def _check_unchanged(file: SourceFile) -> None:
    now = file.path.stat()
    if (now.st_size, now.st_mtime_ns) != (file.size, file.mtime_ns):
        raise SourceChanged(
            "the file changed while it was being read",
            path=str(file.path),
            next_step="run the command again when nothing writes to it",
        )


class _Zstandard(io.RawIOBase):
    """Unpacks Zstandard frames; unlike the library's own reader it notices a file that ends within a frame."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frames = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame = self._frames.decompressobj()
        self._within = False
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub says any writable buffer
        while not self._ready and self._advance():
            pass
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _advance(self) -> bool:
        """Unpack the next few packed bytes; False at the end of the file."""
        packed = self._packed or self._raw.read(1 << 16)
        if not packed:
            if self._within:
                raise EOFError("it ends within a frame")
            return False
        self._ready = memoryview(self._frame.decompress(packed))
        self._packed, self._within = self._frame.unused_data, not self._frame.eof
        if self._frame.eof:
            self._frame = self._frames.decompressobj()
        return True
