"""What the sources hold against what the collection holds: documents added, changed, moved, deleted.

Files tell first: those with the same name, place and digest are not looked into. The documents of all others are
matched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from corpusmill import intake
from corpusmill.collections.known import format_of, path_of, stamps
from corpusmill.collections.matching import Found, Matching
from corpusmill.ledger.collection_records import KnownDocument, KnownFile, Row


@dataclass(slots=True)
class Difference:
    """What has to be written. `touched`: files to look into, whose `documents` are matched."""

    touched: tuple[intake.SourceFile, ...] = ()
    documents_of: Counter[str] = field(default_factory=Counter)
    findings: intake.Findings = field(default_factory=intake.Findings)
    documents: Matching = field(default_factory=Matching)
    ended_files: list[int] = field(default_factory=list)
    restamped: list[Row] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def before(self) -> int:
        """How many documents the collection had."""
        return sum(self.counts[name] for name in ("changed", "moved", "unchanged", "deleted"))


def part(
    scan: intake.Scan, known: Iterable[KnownFile], *, recut: bool, scanned_ns: int, left: frozenset[str]
) -> tuple[Difference, list[KnownFile]]:
    """Files that are as they were, and those to look into: of the sources, and of the collection.

    `left`: sources that are left as the collection has them, whatever they hold now.
    """
    difference = Difference()
    before = {file.source: file for file in known}
    touched = []
    for file in scan.files:
        old = before.get(file.source)
        if file.source in left:
            _stays(difference, before.pop(file.source, None))
        elif old is None or recut or (old.digest, old.format, old.place) != (file.digest, format_of(file), file.place):
            touched.append(file)
        else:
            _stays(difference, before.pop(file.source))
            stamp = (path_of(file), file.size, *stamps(file, scanned_ns))
            if stamp != (old.path, old.size, old.mtime_ns, old.ctime_ns):
                difference.restamped.append((*stamp, old.file_no))
    difference.touched = tuple(touched)
    difference.ended_files = [file.file_no for file in before.values()]
    return difference, list(before.values())


def _stays(difference: Difference, file: KnownFile | None) -> None:
    difference.counts["unchanged"] += file.documents if file else 0


def match(difference: Difference, old: Iterable[Iterable[KnownDocument]], new: Iterable[Found], *, recut: bool) -> None:
    """Match the documents of files that are not as they were; `old` file by file."""

    def counted() -> Iterator[Found]:
        for found in new:
            difference.documents_of[found.source] += 1
            yield found

    for documents in old:
        difference.documents.add_old(documents)
    difference.documents.add_new(counted())
    difference.counts.update(difference.documents.match(recut=recut))


def documents_in(scan: intake.Scan, difference: Difference, reading: intake.Reading) -> Iterator[Found]:
    """The documents of the touched files; line files are read for it, all of them once: ids are unique over them."""
    if any(file.format != "text" for file in difference.touched):
        difference.findings = _of_touched(intake.validate(scan, reading), scan, difference.touched)
    places = {file.source: file.place for file in difference.touched}
    for document in intake.documents(replace(scan, files=difference.touched), reading, difference.findings):
        source, name = intake.name_of(document)
        line = intake.line_of(document)
        place = places[source] + b"\x00" + line.to_bytes(8, "big")
        yield Found(source, name, place, intake.digest_of(document), line or None)


def _of_touched(
    findings: intake.Findings, scan: intake.Scan, touched: tuple[intake.SourceFile, ...]
) -> intake.Findings:
    """The findings by the numbers that the touched files have among themselves."""
    repeats = {scan.files[number].source: lines for number, lines in findings.repeats.items()}
    mine = {number: repeats[file.source] for number, file in enumerate(touched) if file.source in repeats}
    return replace(findings, repeats=mine)
