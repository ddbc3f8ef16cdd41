"""Which files of a folder are candidates: by relative path, in order, without what is hidden, ignored or outside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from corpusmill.errors import UsageError
from corpusmill.intake.opening import unreadable
from corpusmill.intake.shapes import Reading

NEVER = frozenset({"node_modules", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a folder; with `reason` it is left out. `wanted`: `--include` names it."""

    path: Path
    relative: str
    reason: str | None = None
    wanted: bool = False


@dataclass(frozen=True, slots=True)
class _Ignore:
    """The `.gitignore` of the folder whose relative path is `prefix` (empty, or with a slash at its end)."""

    prefix: str
    spec: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Open:
    """A folder or file still to be looked at.

    `above` are the real folders that it lies in: a link into one of them would lead round in a circle.
    """

    path: Path
    relative: str
    is_folder: bool
    ignores: tuple[_Ignore, ...]
    above: frozenset[str]


def files_of(folder: Path, reading: Reading) -> Iterator[Found]:
    """The files of `folder` and below, sorted by relative path.

    Raises:
        SourceError: a folder cannot be read.
        UsageError: a pattern of `--include` or `--exclude` is none.
    """
    include, exclude = patterns(reading.include, "--include"), patterns(reading.exclude, "--exclude")
    root = os.path.realpath(folder)
    stack = [_Open(folder, "", True, _ignores_above(folder), frozenset())]
    while stack:
        place = stack.pop()
        reason = _link_reason(place, root)
        if place.is_folder and reason is None:
            stack += reversed(list(_entries(place, exclude)))
            continue
        if not place.is_folder and include.patterns and not include.match_file(place.relative):
            continue
        yield Found(place.path, place.relative.rstrip("/"), reason, wanted=bool(include.patterns))


def patterns(globs: Sequence[str], option: str) -> GitIgnoreSpec:
    """Patterns with the meaning that they have in `.gitignore`."""
    try:
        return GitIgnoreSpec.from_lines(globs)
    except ValueError as error:
        raise UsageError(f"{option}: not a pattern: {error}", next_step="patterns are those of .gitignore") from error


def _entries(place: _Open, exclude: GitIgnoreSpec) -> Iterator[_Open]:
    """What lies in a folder, in the order of relative paths: a folder's name counts with the slash after it."""
    real = os.path.realpath(place.path)
    if real in place.above:
        return
    above, ignores = place.above | {real}, place.ignores + _ignore_in(place)
    try:
        with os.scandir(place.path) as entries:
            there = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise unreadable(place.path, error) from error
    for name, is_folder in sorted(there, key=lambda entry: entry[0] + "/" * entry[1]):
        relative = f"{place.relative}{name}" + "/" * is_folder
        if not (name.startswith(".") or name in NEVER or _ignored(relative, ignores) or exclude.match_file(relative)):
            yield _Open(place.path / name, relative, is_folder, ignores, above)


def _link_reason(place: _Open, root: str) -> str | None:
    """Why what is a link, or no ordinary file, is left out."""
    if place.relative and place.path.is_symlink():
        if not place.path.exists():
            return "broken link"
        if not f"{os.path.realpath(place.path)}{os.sep}".startswith(root.rstrip(os.sep) + os.sep):
            return "link out of the folder"
    return None if place.is_folder or place.path.is_file() else "not an ordinary file"


def _ignored(relative: str, ignores: tuple[_Ignore, ...]) -> bool:
    """Whether `.gitignore` files leave it out; the nearest one that speaks of it decides."""
    for ignore in reversed(ignores):
        verdict = ignore.spec.check_file(_below(relative, ignore.prefix)).include
        if verdict is not None:
            return verdict
    return False


def _below(relative: str, prefix: str) -> str:
    """The path as the `.gitignore` at `prefix` sees it; one above our folder has a prefix that starts with `../`."""
    return f"{prefix[3:]}{relative}" if prefix.startswith("../") else relative[len(prefix) :]


def _ignore_in(place: _Open) -> tuple[_Ignore, ...]:
    return _ignore(place.path / ".gitignore", place.relative)


def _ignores_above(folder: Path) -> tuple[_Ignore, ...]:
    """The `.gitignore` files between `folder` and the top of its repository, top first.

    One that leaves out `folder` itself is overruled by the person who named it.
    """
    above: list[_Ignore] = []
    for parent in (folder, *folder.parents):
        if parent != folder:
            below = f"{folder.relative_to(parent).as_posix()}/"
            above += (
                found for found in _ignore(parent / ".gitignore", f"../{below}") if not found.spec.match_file(below)
            )
        if (parent / ".git").exists():
            return tuple(reversed(above))
    return ()


def _ignore(file: Path, prefix: str) -> tuple[_Ignore, ...]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return (_Ignore(prefix, GitIgnoreSpec.from_lines(lines)),)
