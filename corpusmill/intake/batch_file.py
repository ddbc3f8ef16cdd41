"""OpenAI Batch request files: every line checked before the first is given out, bodies kept as their bytes stood.

A big file is read in blocks by processes of our own, twice: once to check every line, once to count and to give out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from corpusmill.errors import SourceError
from corpusmill.intake.blocks import Block, blocks
from corpusmill.intake.duplicates import IdHashes
from corpusmill.intake.opening import numbered_lines, opened
from corpusmill.intake.pool import in_turn
from corpusmill.intake.rawjson import raw_value
from corpusmill.intake.request_lines import CheckedLine, Checks, in_order, input_tokens
from corpusmill.intake.scanning import scan
from corpusmill.intake.shapes import Findings, Reading, RequestLine, Scan, SourceFile
from corpusmill.intake.validating import IdAt, Tally, settle
from corpusmill.tokens import encoding_for

T = TypeVar("T")
KeyOf = Callable[[Mapping[str, Any]], bytes]


def scan_requests(source: str | Path) -> Scan:
    """Look at a request file, which is JSON lines whatever its name says; `-` is standard input.

    Raises:
        SourceError: it is missing, cannot be read, or is something else.
    """
    found = scan([source], Reading())
    if len(found.files) != 1 or found.files[0].format not in ("jsonl", "text"):
        raise SourceError("not a Batch request file", path=str(source), next_step="name one file of JSON lines")
    if found.files[0].format == "text":
        return Scan((replace(found.files[0], format="jsonl"),))
    return found


def first_request(found: Scan, *, skip_invalid: bool = False) -> CheckedLine:
    """The first request of a file, of which nothing more is read.

    Raises:
        SourceError: there is none, or a line before it is not in order and may not be left out.
    """
    (file,) = found.files
    with opened(file) as stream:
        first = next(in_order(numbered_lines(stream), file, Tally(), skip_invalid=skip_invalid), None)
    if first is None:
        raise SourceError("the file holds no request", path=str(file.path), next_step="write one JSON object a line")
    return first


def validate_requests(found: Scan, *, skip_invalid: bool = False) -> Findings:
    """Read a request file once; raise for the first line that is not in order, or count what is left out.

    Raises:
        SourceError: with file and line; for a repeated `custom_id` or a second `url` with both lines.
    """
    (file,) = found.files
    checks, tally = _checks(found, skip_invalid), Tally()
    with IdHashes() as hashes:
        for ids, part in _through(file, _Checking(checks)):
            hashes.add_all(ids)
            tally.merge(part)
        suspects = hashes.seen_twice()
    if suspects:
        settle(_ids(checks), suspects, tally, skip=skip_invalid)
    return tally.findings()


def requests(
    source: str | Path | Scan,
    skip_invalid: bool = False,
    findings: Findings | None = None,
    key_of: KeyOf | None = None,
    *,
    after_line: int = 0,
) -> Iterator[RequestLine]:
    """The requests of a Batch file in order; the whole file is validated first.

    Args:
        source: a path, or what `scan_requests` found.
        skip_invalid: leave out lines that are not in order, and repeated ids but the first.
        findings: what `validate_requests` gave; the file is validated when it is missing.
        key_of: makes the key of a request of its parsed body; it goes to other processes, so it can be pickled.
        after_line: the line of the last request that is wanted no more.
    """
    found = source if isinstance(source, Scan) else scan_requests(source)
    (file,) = found.files
    findings = findings or validate_requests(found, skip_invalid=skip_invalid)
    repeats = findings.repeats.get(0, frozenset())
    for counted in _through(file, _Counting(_checks(found, skip_invalid), repeats, key_of, after_line), after_line):
        for values in counted:
            yield RequestLine(*values)


@dataclass(frozen=True, slots=True)
class _Checking:
    """Checks the lines of a block: gives their ids and what was counted."""

    checks: Checks

    def __call__(self, block: Block) -> Iterator[tuple[list[str], Tally]]:
        tally, ids = Tally(), []
        for request in self.checks(block.lines(), tally):
            ids.append(request.custom_id)
            tally.models.add(request.body["model"])
        tally.records = len(ids)
        yield ids, tally


@dataclass(frozen=True, slots=True)
class _Counting:
    """Turns the lines of a block into the fields of `RequestLine`."""

    checks: Checks
    repeats: frozenset[int]
    key_of: KeyOf | None
    after_line: int

    def __call__(self, block: Block) -> Iterator[Sequence[tuple[Any, ...]]]:
        lines = self.checks(block.lines(), Tally())
        yield [self._counted(each) for each in lines if each.line > self.after_line and each.line not in self.repeats]

    def _counted(self, request: CheckedLine) -> tuple[Any, ...]:
        model = request.body["model"]
        body = raw_value(request.raw, "body") or b"{}"
        tokens = input_tokens(request.body, encoding_for(model))
        key = self.key_of(request.body) if self.key_of else None
        return request.custom_id, request.url, model, body, request.line, tokens, key


def _through(file: SourceFile, work: Callable[[Block], Iterator[T]], after_line: int = 0) -> Iterator[T]:
    """What `work` makes of the blocks of a file, but for those that end by `after_line`."""
    with opened(file) as stream:
        yield from in_turn(work, (each for each in blocks(stream) if each.last > after_line), size=file.size)


def _checks(found: Scan, skip_invalid: bool) -> Checks:
    first = first_request(found, skip_invalid=skip_invalid)
    return Checks(found.files[0], skip_invalid, first.url, first.line)


def _ids(checks: Checks) -> Iterator[IdAt]:
    with opened(checks.file) as stream:
        for request in checks(numbered_lines(stream), Tally()):
            yield IdAt(request.custom_id, 0, checks.file, request.line)
