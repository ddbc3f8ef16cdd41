"""The one lock that says whether a supervisor lives, and the note in it that says where.

The kernel gives a lock back when its holder dies, however it dies; so a note without a lock is an old one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Note:
    """Who holds the lock: process id and the folder with its sockets."""

    pid: int
    folder: str


class Lock:
    """The lock, held; what the last holder wrote is in `left_behind`."""

    def __init__(self, descriptor: int, left_behind: Note | None) -> None:
        self._descriptor = descriptor
        self.left_behind = left_behind

    def write(self, note: Note | None) -> None:
        """Say where we are, or (None) that nobody is."""
        text = json.dumps(asdict(note)) if note else ""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two processes hold two locks of one name."""
        os.close(self._descriptor)


def take(path: Path, *, within_s: float) -> Lock | None:
    """Hold the lock, or None when another process has it.

    Somebody who just asks (`is_held`) is waited for; a holder that has said who it is is not: one that lost the race
    must not take over later, when the winner is told to stop.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + within_s
    while not _flock(descriptor, fcntl.LOCK_EX):
        note = _parsed(os.pread(descriptor, 4096, 0))
        if time.monotonic() > deadline or (note and psutil.pid_exists(note.pid)):
            os.close(descriptor)
            return None
        time.sleep(0.02)
    return Lock(descriptor, _parsed(os.pread(descriptor, 4096, 0)))


def is_held(path: Path) -> bool:
    """Whether a supervisor lives. Asks for a shared lock, for an instant, so that two may ask at once."""
    with _opened(path) as descriptor:
        return descriptor is not None and not _flock(descriptor, fcntl.LOCK_SH)


def read(path: Path) -> Note | None:
    """The note, whether or not its writer still lives."""
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return None


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(text: bytes) -> Note | None:
    try:
        return Note(**json.loads(text))
    except (ValueError, TypeError):
        return None
