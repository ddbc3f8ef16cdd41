"""Files that need not be read again: their size, and the times that the system keeps of them, are as they were.

The time of the last change of content or metadata (ctime) cannot be set by a program, so an editor that puts the
modification time back is found out. A file that changed within the last seconds before it was read is remembered
without times: what is written to it in the same tick of the clock would not show in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corpusmill import intake
from corpusmill.ledger.collection_records import KnownFile

_TICK_NS = 2_000_000_000


class Files:
    """The files of a collection's last sync, found again by their paths; counts those that were."""

    def __init__(self, known: Iterable[KnownFile]) -> None:
        self._files = {file.path: file for file in known}
        self.taken = 0

    def __call__(self, path: Path) -> intake.SourceFile | None:
        """What was read from this path, if nothing says that it changed."""
        file = self._files.get(str(path))
        if file is None or file.mtime_ns is None:
            return None
        try:
            stat = path.stat()
        except OSError:
            return None
        if (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) != (file.size, file.mtime_ns, file.ctime_ns):
            return None
        self.taken += 1
        form, _, compression = file.format.partition("+")
        facts: Any = (form, compression or None, file.size, file.mtime_ns, file.digest, file.ctime_ns)
        return intake.SourceFile(path, "", *facts)


def format_of(file: intake.SourceFile) -> str:
    """Format and compression in one word."""
    return f"{file.format}+{file.compression}" if file.compression else file.format


def stamps(file: intake.SourceFile, scanned_ns: int) -> tuple[int | None, int | None]:
    """The times by which a file may be known again; None for one that changed just before it was read."""
    if max(file.mtime_ns, file.ctime_ns) >= scanned_ns - _TICK_NS:
        return None, None
    return file.mtime_ns, file.ctime_ns


def path_of(file: intake.SourceFile) -> str:
    """The path as the ledger can hold it; one that is no UTF-8 is read every time."""
    return os.fsencode(file.path).decode("utf-8", "backslashreplace")
