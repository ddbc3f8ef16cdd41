"""Output files: never over somebody else's, and never after the money is spent.

The ledger remembers the digest of what a job wrote to each path; a file that still has it is the job's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from corpusmill.errors import OutputExists, UsageError
from corpusmill.export.files import digest

# The digest that a job has last written to a path, or None.
Remembered = Callable[[str], str | None]


def refuse(paths: Sequence[Path], remembered: Remembered, *, force: bool) -> None:
    """Make sure that every one of `paths` can be written and is nobody else's.

    Raises:
        OutputExists: a file is there that this job did not write, or that was changed since.
        UsageError: the folder is missing or not writable, or the path is a folder.
    """
    for path in paths:
        _refuse_unwritable(path)
        if path.exists() and not force and remembered(str(path)) != digest(path):
            raise OutputExists(str(path))


def refuse_sources(paths: Sequence[Path], sources: Iterable[Path]) -> None:
    """Make sure that no output takes the place of a source, whatever `--force` says.

    Raises:
        UsageError: one would.
    """
    read = {os.path.realpath(source) for source in sources}
    for path in paths:
        if os.path.realpath(path) in read:
            raise UsageError(f"{path} is a source of this job", where=str(path), next_step="choose another --out")


def _refuse_unwritable(path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a folder", where=str(path), next_step="name a file in it")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", where=str(path), next_step=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"the folder {folder} cannot be written to", where=str(path), next_step="choose another --out")


def absolute(path: Path | None) -> Path | None:
    """The path as another process, started elsewhere, can use it."""
    return None if path is None else Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  # links stay as typed
