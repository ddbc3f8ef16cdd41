"""The names that results carry: `source` for each file, short and distinct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True, slots=True)
class Named:
    """A file before it has its name: its absolute path, and how many of its last parts are the name by default."""

    path: Path
    parts: int


def labels(folders: Sequence[Path]) -> list[int]:
    """How many of each folder's own last parts go before the paths below it.

    None when there is one folder; its name when there are several, and as many parents as tell equal names apart.
    """
    if len(folders) < 2:
        return [0] * len(folders)
    return _lengths([folder.parts for folder in folders], [1] * len(folders))


def sources(files: Sequence[Named]) -> list[str]:
    """The `source` of each file: its last parts, and as many parent folders as tell it from the others."""
    parts = [file.path.parts for file in files]
    lengths = _lengths(parts, [file.parts for file in files])
    return [_joined(names, length) for names, length in zip(parts, lengths, strict=True)]


def _lengths(paths: Sequence[tuple[str, ...]], lengths: Sequence[int]) -> list[int]:
    """Lengthen the names that several distinct paths share until none is shared."""
    longer = list(lengths)
    while True:
        counts = Counter(_joined(path, length) for path, length in zip(paths, longer, strict=True))
        shared = [
            place
            for place, (path, length) in enumerate(zip(paths, longer, strict=True))
            if counts[_joined(path, length)] > 1 and length < len(path)
        ]
        if not shared:
            return longer
        for place in shared:
            longer[place] += 1


def _joined(path: tuple[str, ...], length: int) -> str:
    name = PurePath(*path[len(path) - length :]).as_posix() if length else ""
    # A name that is no UTF-8 reaches Python as lone surrogates, which nothing can store.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
