"""Look at one file: its kind, its digest, and whether its text is sound. One pass over its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from corpusmill.extras import need_pyarrow
from corpusmill.intake import kinds
from corpusmill.intake.clean import BadTextFinder
from corpusmill.intake.opening import unreadable
from corpusmill.intake.shapes import Compression, Format, SourceFile

_BLOCK = 1 << 20
_HEAD = 8192


@dataclass(frozen=True, slots=True)
class Looked:
    """What a file is. With `reason` it is none that can be read; `advice` then says what to do.

    `bad_text` is the first bad text of a text file and where it stands.
    """

    file: SourceFile | None = None
    reason: str | None = None
    advice: str | None = None
    bad_text: str | None = None


def look(path: Path, *, as_text: bool) -> Looked:
    """Look at a file. `as_text`: it was named by a person, so a suffix that nobody knows is text.

    Raises:
        SourceError: it cannot be read.
        UsageError: the package that reads it is not installed.
    """
    if advice := kinds.advice(path):
        return Looked(reason=f"{path.suffix[1:].upper()}, needs a converter", advice=advice)
    lines = kinds.line_format(path)
    if lines is None and not as_text and not kinds.is_text_name(path):
        return Looked(reason="unknown kind")
    if lines and lines[0] == "parquet":
        need_pyarrow(str(path), otherwise="or leave such files of a folder out: --exclude '*.parquet'")
    try:
        return _read(path, *(lines or ("text", None)))
    except OSError as error:
        raise unreadable(path, error) from error


def _read(path: Path, form: Format, compression: Compression | None) -> Looked:
    digest, finder = hashlib.sha256(), BadTextFinder()
    with path.open("rb") as stream:
        stat = path.stat()
        block = stream.read(_BLOCK)
        if not block:
            return Looked(reason="empty")
        if form == "text" and (reason := kinds.why_binary(block[:_HEAD])):
            return Looked(reason=reason, advice=kinds.advice(path.with_suffix(".pdf")) if reason == "PDF" else None)
        while block:
            digest.update(block)
            if form == "text":
                finder.feed(block)
            block = stream.read(_BLOCK)
        finder.feed(b"", final=True)
    # The name comes later, when all files are known.
    size, mtime_ns, ctime_ns = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    file = SourceFile(path, "", form, compression, size, mtime_ns, digest.digest(), ctime_ns)
    return Looked(file, bad_text=finder.found)
