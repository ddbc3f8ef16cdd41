"""One policy for text that cannot be stored or sent: every bad character becomes U+FFFD, and lengths stay.

Bad are NUL (PostgreSQL refuses it), lone surrogates (no UTF-8 for them) and invalid UTF-8. A byte order mark at
the start of a file is dropped; CRLF, U+2028 and all else stay as they are, so
`open(path, encoding="utf-8-sig", errors="replace", newline="").read()[start:end]`, NUL aside, is the chunk.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

REPLACEMENT = "\ufffd"
_BAD = re.compile("[\x00\ud800-\udfff]")
_READ_BYTES = 1 << 20


def clean(text: str) -> str:
    """`text` with NUL and lone surrogates replaced, at the same length."""
    return _BAD.sub(REPLACEMENT, text)


def bad_character(text: str) -> str | None:
    """What the first bad character of `text` is and where, or None."""
    found = _BAD.search(text)
    if found is None:
        return None
    name = "NUL" if found.group() == "\0" else f"lone surrogate U+{ord(found.group()):04X}"
    return f"{name} at character {found.start():,}"


def clean_tree(value: Any) -> Any:
    """A JSON value with every string in it cleaned, keys too, and integers beyond 64 bits as floats."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_tree(item) for item in value]
    if isinstance(value, dict):
        return {clean(str(key)): clean_tree(item) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def decoded(file: BinaryIO) -> Iterator[str]:
    """The cleaned text of `file` in blocks of about a million characters."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    first = True
    while block := file.read(_READ_BYTES):
        text = decoder.decode(block)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        yield text.replace("\0", REPLACEMENT)
    yield decoder.decode(b"", final=True)


class BadTextFinder:
    """Finds the first bad byte of a stream that is fed to it block by block."""

    def __init__(self) -> None:
        self.found: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="strict")
        self._fed = 0

    def feed(self, block: bytes, *, final: bool = False) -> None:
        """Look at the next block; `final` with the last one, which may be empty."""
        if self.found is not None:
            return
        pending = len(self._decoder.getstate()[0])
        nul = block.find(b"\0")
        try:
            self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # The decoder's position counts from the bytes that it still held back from the block before.
            at = error.start - pending
            if nul < 0 or at < nul:
                self.found = f"invalid UTF-8 at byte {self._fed + at:,}"
                return
        if nul >= 0:
            self.found = f"NUL at byte {self._fed + nul:,}"
        self._fed += len(block)
