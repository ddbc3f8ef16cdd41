"""What the sources hold against what the collection holds: documents added, changed, moved, deleted.

Files tell first: those with the same name, place and digest are not looked into. The documents of all others are
matched by id and content, then by content alone (they moved), then by id alone (they changed).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from corpusmill import intake
from corpusmill.collections.known import format_of, path_of, stamps
from corpusmill.ledger.collection_records import KnownDocument, KnownFile, Row

Name = tuple[str, str]
"""The `source` and `id` of a document."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document of the sources."""

    source: str
    id: str
    place: bytes
    digest: bytes
    line: int | None


@dataclass(slots=True)
class Difference:
    """What has to be written. `cut`: new and changed documents; `placed`: old content under a new name or place."""

    touched: tuple[intake.SourceFile, ...] = ()
    documents_of: Counter[str] = field(default_factory=Counter)
    findings: intake.Findings = field(default_factory=intake.Findings)
    cut: dict[Name, Found] = field(default_factory=dict)
    placed: list[tuple[KnownDocument, Found]] = field(default_factory=list)
    ended_files: list[int] = field(default_factory=list)
    ended_documents: list[int] = field(default_factory=list)
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


def match(difference: Difference, old: Iterable[KnownDocument], new: Iterable[Found], *, recut: bool) -> None:
    """Match the documents of files that are not as they were."""
    before = {document.id: document for document in old}
    pending: list[Found] = []
    for found in new:
        difference.documents_of[found.source] += 1
        same = before.get(found.id)
        if same is not None and same.digest == found.digest and not recut:
            _place(difference, before.pop(found.id), found)
        else:
            pending.append(found)
    by_digest = _by_digest(before)
    for found in pending:
        if not recut and (names := by_digest.get(found.digest)) and found.id not in names:
            _place(difference, before.pop(names.pop()), found)
        else:
            difference.cut[found.source, found.id] = found
    for found in difference.cut.values():
        changed = before.pop(found.id, None)
        difference.counts["changed" if changed else "added"] += 1
        difference.ended_documents += [changed.document_no] if changed else []
    difference.counts["deleted"] += len(before)
    difference.ended_documents += [document.document_no for document in before.values()]


def _by_digest(documents: Mapping[str, KnownDocument]) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = defaultdict(list)
    for name, document in documents.items():
        found[document.digest].append(name)
    return found


def _place(difference: Difference, old: KnownDocument, found: Found) -> None:
    """A document whose content is there already, perhaps by another name or at another place."""
    renamed = (old.source, old.id) != (found.source, found.id)
    difference.counts["moved" if renamed else "unchanged"] += 1
    if renamed or old.place != found.place:
        difference.placed.append((old, found))
        difference.ended_documents.append(old.document_no)


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
