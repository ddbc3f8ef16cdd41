"""Whether this process can read, or write, the paths that a command names.

A need is `read PATH` or `write PATH`, with an absolute path: what a schedule asks the process that will run it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def unmet(needs: Iterable[str]) -> list[str]:
    """Those that are not met here, each in words."""
    return [words for need in needs if (words := _unmet(need))]


def _unmet(need: str) -> str | None:
    verb, _, name = need.partition(" ")
    path = Path(name)
    try:
        there = path.exists()
    except OSError:
        there = False
    if not there:
        return f"{path} is not there (the nearest folder that is: {_nearest(path)})"
    # A folder is read by entering it as well.
    mode = os.W_OK if verb == "write" else os.R_OK | (os.X_OK if path.is_dir() else 0)
    return None if os.access(path, mode) else f"{path} cannot be {'written' if verb == 'write' else 'read'}"


def _nearest(path: Path) -> Path:
    return next((above for above in path.parents if os.path.isdir(above)), path)  # noqa: PTH112 - never raises
