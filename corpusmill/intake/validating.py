"""One pass over the line files before anything is stored: every record sound, every id once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from corpusmill.errors import SourceError
from corpusmill.intake.duplicates import IdHashes
from corpusmill.intake.records import records
from corpusmill.intake.shapes import BadLine, Findings, Reading, Record, Scan, SourceFile

_NAMED = 5


@dataclass(slots=True)
class _Places:
    """Records with something to tell about them: how many, and the first few."""

    told: str
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, file: SourceFile, line: int, what: str) -> None:
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(f"{file.source}:{line} ({what})")

    def merge(self, other: _Places) -> None:
        self.count += other.count
        self.first = [*self.first, *other.first][:_NAMED]

    def note(self) -> str:
        more = f" and {self.count - _NAMED:,} more" if self.count > _NAMED else ""
        noun = "record" if self.count == 1 else "records"
        return f"{self.count:,} {noun} {self.told}: {', '.join(self.first)}{more}"


@dataclass(frozen=True, slots=True)
class IdAt:
    """An id and its place: line `line` of the file that is number `number` in the scan."""

    id: str
    number: int
    file: SourceFile
    line: int


@dataclass(slots=True)
class Tally:
    """What the pass counts."""

    records: int = 0
    skipped: _Places = field(default_factory=lambda: _Places("left out"))
    mended: _Places = field(default_factory=lambda: _Places("with bad text replaced by U+FFFD"))
    models: set[str] = field(default_factory=set)
    repeats: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def merge(self, later: Tally) -> None:
        """Add what was counted in a later part of the file."""
        self.records += later.records
        self.skipped.merge(later.skipped)
        self.models |= later.models

    def findings(self) -> Findings:
        """What is reported in the end."""
        notes = tuple(places.note() for places in (self.skipped, self.mended) if places.count)
        repeats = {number: frozenset(lines) for number, lines in self.repeats.items()}
        return Findings(self.records, repeats, notes, self.skipped.count, frozenset(self.models))


def validate(scan: Scan, reading: Reading) -> Findings:
    """Read all records once; raise for the first that is broken, or count what `skip_invalid` leaves out.

    Memory stays bounded whatever the number of records: see `duplicates`.

    Raises:
        SourceError: a line is no record, is blank, or repeats an id; with file and line, for an id with both.
    """
    tally = Tally()
    with IdHashes() as hashes:
        for file in scan.files:
            if file.format == "text":
                hashes.add(file.source)
                continue
            for record in checked(file, reading, tally):
                tally.records += 1
                hashes.add(id_of(file, record))
        suspects = hashes.seen_twice()
    if suspects:
        settle(_ids(scan, reading), suspects, tally, skip=reading.skip_invalid)
    return tally.findings()


def id_of(file: SourceFile, record: Record) -> str:
    """The record's own id, else `SOURCE:LINE`."""
    return record.id if record.id is not None else f"{file.source}:{record.line}"


def checked(file: SourceFile, reading: Reading, tally: Tally | None = None) -> Iterator[Record]:
    """The sound records of a line file. Raises SourceError for the first that is not, unless such are left out."""
    tally = tally or Tally()
    for record in records(file, reading):
        if isinstance(record, BadLine):
            if not reading.skip_invalid:
                raise error_at(file, record)
            tally.skipped.add(file, record.line, record.what)
        elif record.bad_text is None:
            yield record
        elif reading.on_bad_text == "replace":
            tally.mended.add(file, record.line, record.bad_text)
            yield record
        elif reading.on_bad_text == "skip":
            tally.skipped.add(file, record.line, record.bad_text)
        else:
            fix = "mend the record, or let it be mended or left out: --on-bad-text replace|skip"
            raise SourceError(record.bad_text, path=str(file.path), line=record.line, next_step=fix)


def error_at(file: SourceFile, line: BadLine) -> SourceError:
    """The error for a line that is no record."""
    return SourceError(line.what, path=str(file.path), line=line.line, next_step=line.next_step)


def settle(ids: Iterator[IdAt], suspects: frozenset[int], tally: Tally, *, skip: bool) -> None:
    """Compare the ids themselves, since two may share a hash; the first of each stays.

    With `skip` the others are left out.

    Raises:
        SourceError: an id is there twice, and `skip` is not set.
    """
    first: dict[str, IdAt] = {}
    for at in ids:
        if hash(at.id) not in suspects or first.setdefault(at.id, at) is at:
            continue
        if not skip:
            raise _repeated(first[at.id], at)
        tally.repeats[at.number].add(at.line)
        tally.skipped.add(at.file, at.line, "the id was there before")
        tally.records -= 1


def _ids(scan: Scan, reading: Reading) -> Iterator[IdAt]:
    for number, file in enumerate(scan.files):
        if file.format == "text":
            yield IdAt(file.source, number, file, 1)
        else:
            for record in checked(file, reading):
                yield IdAt(id_of(file, record), number, file, record.line)


def _repeated(first: IdAt, again: IdAt) -> SourceError:
    shown = first.id if len(first.id) <= 80 else f"{first.id[:77]}..."
    what = f"the id {shown!r} is there twice: {first.file.path}:{first.line} and {again.file.path}:{again.line}"
    fix = "give each record an id of its own, or keep the first of them: --skip-invalid"
    return SourceError(what, path=str(again.file.path), line=again.line, next_step=fix)
