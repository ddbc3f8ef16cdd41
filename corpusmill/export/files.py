"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from corpusmill.errors import CorpusmillError, DiskFull, UsageError

# Called with a file's place and the digest of what is about to be put there.
Ready = Callable[[Path, str], None]

_BUFFER_BYTES = 1 << 20


@contextmanager
def replacing(path: Path, ready: Ready) -> Iterator[BinaryIO]:
    """A file to write; at the end it takes the place of `path`, and when anything fails it vanishes.

    `ready` is told first, so that a crash right after the renaming leaves no file that nobody remembers.

    Raises:
        DiskFull: there is no room left.
        UsageError: the file cannot be written where it should be.
    """
    # The process number keeps two commands that export one job from writing into one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w+b", buffering=_BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        ready(path, digest(temporary))
        temporary.replace(path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _explained(error: OSError, path: Path) -> CorpusmillError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"no room left to write {path.name}; the results are safe in the ledger",
            where=str(path),
            next_step="make room, then `corpusmill export JOB --out FILE`",
        )
    return UsageError(f"cannot write {path.name}: {error.strerror}", where=str(path), next_step="choose another --out")
