"""The folders of journals: made, locked, found and removed without ever being seen half done.

A folder is locked by `flock` on itself, which ends with the process, however that ends. Names with a dot in front are
being made or removed; `.damaged` at the end marks one that is kept for a person to look at.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SEGMENT = "{:08d}.log"
_FORGOTTEN_S = 60.0


def make_locked(parent: Path) -> tuple[Path, int]:
    """Make a folder of one's own and hold it; returns it and the descriptor that holds the lock."""
    # HOME as well: `parents` would make it open to everybody.
    parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent.mkdir(mode=0o700, exist_ok=True)
    name = f"{os.getpid()}-{secrets.token_hex(4)}"
    hidden = parent / f".new-{name}"
    hidden.mkdir(mode=0o700)
    lock = os.open(hidden, os.O_RDONLY)
    # Waits at most for a sweeper that looks at it, whose clock has jumped.
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Only now may others see it: one that finds it unlocked would take it for a dead process's.
    return hidden.rename(parent / name), lock


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder if nobody else does; yields whether it is held now."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        yield _taken(lock, folder)
    finally:
        os.close(lock)


def _taken(lock: int, folder: Path) -> bool:
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody else may have adopted and removed it between our opening and our locking.
        return folder.stat().st_ino == os.fstat(lock).st_ino
    return False


def orphans(parent: Path) -> list[Path]:
    """The folders that may have lost their process, in the order of their names; locking tells."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.name[0] != "." and path.suffix != ".damaged")


def segments(folder: Path) -> list[Path]:
    """The segments of a journal, oldest first."""
    return sorted(folder.glob("*.log"))


def remove(folder: Path) -> None:
    """Remove a folder that one holds, so that nobody finds half of it."""
    shutil.rmtree(folder.rename(folder.with_name(f".old-{folder.name}")), ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what processes left that died while making or removing a folder."""
    if not parent.is_dir():
        return
    for path in parent.glob(".[no][el][wd]-*"):
        # By age first: a look at the lock of one that is being made would keep its maker from it.
        if _forgotten(path):
            with held(path) as ours:
                if ours:
                    shutil.rmtree(path, ignore_errors=True)


def _forgotten(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _FORGOTTEN_S
    except OSError:
        return False
