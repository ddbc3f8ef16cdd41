"""Sources that can be read only once, kept in a private temporary folder while they are needed."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from corpusmill.errors import UsageError


def is_stream(source: str | Path) -> bool:
    """Whether it can be read only once: `-` for standard input, a named pipe, a shell's `<(...)`."""
    if str(source) == "-":
        return True
    try:
        mode = os.stat(source).st_mode  # noqa: PTH116  # follows links, as opening does
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


class Spool:
    """Copies of streams. They are read as JSON lines, under the name `stdin.jsonl` or `NAME.jsonl`."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def take(self, source: str | Path) -> Path:
        """Read `source` to its end into a file that only this user can read; return its path."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="corpusmill-"))
        name = "stdin" if str(source) == "-" else Path(source).name
        copy = self._folder / f"{name}.jsonl"
        if copy.exists():
            raise UsageError(f"{source} is given twice, but can be read only once", next_step="name it once")
        with copy.open("xb") as file:
            if name == "stdin":
                shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            else:
                with Path(source).open("rb") as stream:
                    shutil.copyfileobj(stream, file, 1 << 20)
        return copy

    def remove(self) -> None:
        """Delete the copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
