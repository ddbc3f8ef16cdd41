"""Find out what the sources hold, before anything is stored or spent: files, names, digests, and all that is wrong."""

from __future__ import annotations

import hashlib
import os
import shlex
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from corpusmill.errors import SourceError, UsageError
from corpusmill.intake.folder import files_of
from corpusmill.intake.inspecting import Looked, look
from corpusmill.intake.naming import Named, labels, sources
from corpusmill.intake.opening import unreadable
from corpusmill.intake.records import records
from corpusmill.intake.shapes import BadLine, LeftOut, Reading, Scan, SourceFile
from corpusmill.intake.spool import Spool, is_stream

_NAMES = 5

Known = Callable[[Path], SourceFile | None]
"""What an earlier look found a file to be, for one that need not be read again."""


def _unknown(path: Path) -> None:
    """Every file has to be read."""


@dataclass(slots=True)
class _Finding:
    """What is known so far."""

    known: Known = _unknown
    empty_ok: bool = False
    files: list[SourceFile] = field(default_factory=list)
    names: list[Named] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.left_out.setdefault(reason, [])
        if len(names) < _NAMES:
            names.append(name)


def scan(given: Sequence[str | Path], reading: Reading, *, known: Known = _unknown, empty_ok: bool = False) -> Scan:
    """Look at every file of the sources: folders, files, or `-` for JSONL on standard input.

    All of every file is read once, for its digest and to see whether its text is sound; but for a file that is `known`.

    Args:
        given: the sources.
        reading: how they are read.
        known: what an earlier look, with the same `reading`, found a file to be.
        empty_ok: whether a folder may hold nothing to read.

    Raises:
        SourceError: a source is missing, cannot be read, holds nothing to read, or needs a converter first.
    """
    with ExitStack() as undo:
        spool = Spool()
        undo.callback(spool.remove)
        paths = [spool.take(source) if is_stream(source) else _absolute(source) for source in given]
        # What is named twice is read once.
        found = _scan(list(dict.fromkeys(paths)), reading, _Finding(known, empty_ok))
        undo.pop_all()
    # A spooled stream lives as long as what was found of it.
    weakref.finalize(found, spool.remove)
    return found


def digests_key(found: Scan) -> bytes:
    """What a job's key takes from its sources: 32 bytes over the ordered names and digests."""
    key = hashlib.sha256()
    for file in found.files:
        name = file.source.encode()
        key.update(b"%d:%b%b" % (len(name), name, file.digest))
    return key.digest()


def _scan(paths: Sequence[Path], reading: Reading, finding: _Finding) -> Scan:
    lengths = iter(labels([path for path in paths if path.is_dir()]))
    for number, path in enumerate(paths):
        if path.is_dir():
            _look_into(path, number, next(lengths), reading, finding)
        else:
            _look_at(path, number, reading, finding)
    return Scan(_named(finding), _left_out(finding), tuple(_notes(finding)))


def _look_into(folder: Path, number: int, label: int, reading: Reading, finding: _Finding) -> None:
    readable = False
    for entry in files_of(folder, reading):
        if entry.reason is not None:
            finding.leave_out(entry.reason, entry.relative)
            continue
        seen = finding.known(entry.path)
        looked = Looked(seen) if seen else look(entry.path, as_text=entry.wanted)
        reason = None if seen else looked.reason or _why_not_records(looked.file, reading)
        if reason is None:
            readable = True
            _keep(looked, number, label + entry.relative.count("/") + 1, entry.relative, reading, finding)
        else:
            finding.leave_out(reason, entry.relative)
            finding.advice += [looked.advice] if looked.advice and looked.advice not in finding.advice else []
    if not readable and not finding.empty_ok:
        raise _nothing_in(folder, reading, finding)


def _look_at(path: Path, number: int, reading: Reading, finding: _Finding) -> None:
    try:
        path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    seen = finding.known(path)
    looked = Looked(seen) if seen else look(path, as_text=True)
    if looked.file is None:
        what = looked.advice or f"the file is {looked.reason}"
        fix = "" if looked.advice else "name a file of UTF-8 text, or .jsonl, .csv or .parquet"
        raise SourceError(what, path=str(path), next_step=fix)
    _keep(looked, number, 1, path.name, reading, finding)


def _keep(looked: Looked, number: int, parts: int, name: str, reading: Reading, finding: _Finding) -> None:
    """Keep a file, unless another source holds it too or its text is not sound and shall not be mended."""
    assert looked.file is not None  # noqa: S101  # for mypy: callers have looked at `reason`
    path = looked.file.path
    first = finding.seen.setdefault(os.path.realpath(path), number)
    if first != number:
        return
    if looked.bad_text is not None:
        if reading.on_bad_text == "fail":
            fix = "mend the file, or let it be mended or left out: --on-bad-text replace|skip"
            raise SourceError(looked.bad_text, path=str(path), next_step=fix)
        if reading.on_bad_text == "skip":
            finding.leave_out("bad text", f"{name} ({looked.bad_text})")
            return
        finding.mended.append(f"{name}: {looked.bad_text}")
    finding.files.append(replace(looked.file, place=_place(number, name)))
    finding.names.append(Named(path, parts))


def _place(number: int, name: str) -> bytes:
    """Bytes in the order in which files are read: of names by code points, also of those that are no UTF-8."""
    return number.to_bytes(4, "big") + name.encode("utf-8", "surrogatepass")


def _why_not_records(file: SourceFile | None, reading: Reading) -> str | None:
    """Why a line file that was found in a folder holds no texts: many folders of documents hold tables too."""
    if file is None or file.format == "text":
        return None
    no_text = f"no field {reading.text_field!r}"
    try:
        # Without the id's field: a file of texts that lacks it is no other kind of file, but an error.
        first = next(records(file, replace(reading, id_field=None)), None)
    except UsageError as error:
        return no_text if error.what.startswith(no_text) else error.what
    return no_text if isinstance(first, BadLine) and first.no_text else None


def _named(finding: _Finding) -> tuple[SourceFile, ...]:
    named = sources(finding.names)
    return tuple(replace(file, source=name) for file, name in zip(finding.files, named, strict=True))


def _left_out(finding: _Finding) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(reason, finding.counts[reason], tuple(names)) for reason, names in finding.left_out.items())


def _notes(finding: _Finding) -> Iterator[str]:
    yield from map(str, _left_out(finding))
    yield from finding.advice[:_NAMES]
    if finding.mended:
        more = len(finding.mended) - _NAMES
        rest = f"; and {more:,} more" if more > 0 else ""
        yield f"bad text replaced by U+FFFD in {'; '.join(finding.mended[:_NAMES])}{rest}"


def _nothing_in(folder: Path, reading: Reading, finding: _Finding) -> SourceError:
    notes = "; ".join((*map(str, _left_out(finding)), *finding.advice[:1]))
    if reading.include and not notes:
        globs = " ".join(f"--include {shlex.quote(glob)}" for glob in reading.include)
        fix = "patterns are those of .gitignore, below the folder; what is hidden, ignored or excluded is never read"
        return SourceError(f"no file of the folder matches {globs}", path=str(folder), next_step=fix)
    what = "the folder holds no file that can be read"
    fix = notes or "put text files in it, or name files of an unknown kind with --include"
    return SourceError(what, path=str(folder), next_step=fix)


def _absolute(source: str | Path) -> Path:
    # Not `resolve`: a folder keeps the name that it was given by, even if that is a link's.
    return Path(os.path.abspath(source))  # noqa: PTH100
