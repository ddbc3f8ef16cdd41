"""OpenAI Batch request files: every line checked before the first is given out, bodies kept as their bytes stood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from corpusmill.errors import SourceError
from corpusmill.intake.duplicates import IdHashes
from corpusmill.intake.opening import numbered_lines, opened
from corpusmill.intake.rawjson import raw_value
from corpusmill.intake.scanning import scan
from corpusmill.intake.shapes import BadLine, Findings, Reading, RequestLine, Scan, SourceFile
from corpusmill.intake.validating import IdAt, Tally, error_at, settle
from corpusmill.tokens import Encoding, encoding_for

_INPUTS = {"/chat/completions": "messages", "/embeddings": "input", "/responses": "input", "/completions": "prompt"}
PATHS = tuple(_INPUTS)
"""What a request may ask for; in a file `/v1` may stand before it."""

_MEND = "mend the line, or leave such lines out: --skip-invalid"


@dataclass(frozen=True, slots=True)
class _Line:
    """A request line that is in order, not counted yet."""

    line: int
    custom_id: str
    url: str
    body: Mapping[str, Any]
    raw: bytes


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


def validate_requests(found: Scan, *, skip_invalid: bool = False) -> Findings:
    """Read a request file once; raise for the first line that is not in order, or count what is left out.

    Raises:
        SourceError: with file and line; for a repeated `custom_id` or a second `url` with both lines.
    """
    (file,) = found.files
    tally = Tally()
    with IdHashes() as hashes:
        for request in _checked(file, skip_invalid, tally):
            tally.records += 1
            tally.models.add(request.body["model"])
            hashes.add(request.custom_id)
        suspects = hashes.seen_twice()
    if suspects:
        ids = (IdAt(request.custom_id, 0, file, request.line) for request in _checked(file, skip_invalid, Tally()))
        settle(ids, suspects, tally, skip=skip_invalid)
    if not tally.records:
        raise SourceError("the file holds no request", path=str(file.path), next_step="write one JSON object a line")
    return tally.findings()


def requests(
    source: str | Path | Scan, skip_invalid: bool = False, findings: Findings | None = None
) -> Iterator[RequestLine]:
    """The requests of a Batch file in order; the whole file is validated first.

    Args:
        source: a path, or what `scan_requests` found.
        skip_invalid: leave out lines that are not in order, and repeated ids but the first.
        findings: what `validate_requests` gave; the file is validated when it is missing.
    """
    found = source if isinstance(source, Scan) else scan_requests(source)
    (file,) = found.files
    findings = findings or validate_requests(found, skip_invalid=skip_invalid)
    repeats = findings.repeats.get(0, frozenset())
    for request in _checked(file, skip_invalid, Tally()):
        if request.line not in repeats:
            model = request.body["model"]
            body = raw_value(request.raw, "body") or b"{}"
            tokens = input_tokens(request.body, encoding_for(model))
            yield RequestLine(request.custom_id, request.url, model, body, request.line, tokens)


def input_tokens(body: Mapping[str, Any], encoding: Encoding) -> int:
    """The tokens of a body's texts: contents of messages, or inputs. Images, tools and framing are not in it."""
    return sum(_count(body.get(field), encoding) for field in ("messages", "input", "prompt", "instructions"))


def _count(value: Any, encoding: Encoding) -> int:
    """A text, a token, a message, a part of a content with a text, or a list of those."""
    if isinstance(value, str):
        return encoding.count(value)
    if isinstance(value, list):
        return sum(_count(item, encoding) for item in value)
    if isinstance(value, dict):
        return _count(value.get("content"), encoding) + _count(value.get("text"), encoding)
    return 1 if isinstance(value, int) else 0


def _checked(file: SourceFile, skip_invalid: bool, tally: Tally) -> Iterator[_Line]:
    first: _Line | None = None
    with opened(file) as stream:
        for line in numbered_lines(stream):
            request = line if isinstance(line, BadLine) else _request(*line)
            if isinstance(request, BadLine):
                if not skip_invalid:
                    raise error_at(file, request)
                tally.skipped.add(file, request.line, request.what)
                continue
            first = first or request
            if request.url != first.url:
                what = f"two urls in one file: {first.url} in line {first.line}, {request.url} in line {request.line}"
                fix = "write one file for each url"
                raise SourceError(what, path=str(file.path), line=request.line, next_step=fix)
            yield request


def _request(number: int, line: bytes) -> _Line | BadLine:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadLine(number, f"not JSON: {error.msg} at column {error.colno}", _MEND)
    if not isinstance(value, dict):
        return BadLine(number, "the line is JSON, but not an object", _MEND)
    wrong = _wrong_envelope(value) or _wrong_body(value["url"], value["body"])
    return (
        BadLine(number, wrong, _MEND) if wrong else _Line(number, value["custom_id"], value["url"], value["body"], line)
    )


def _wrong_envelope(value: Mapping[str, Any]) -> str | None:
    identifier = value.get("custom_id")
    if not isinstance(identifier, str) or not identifier or "\0" in identifier:
        return "no 'custom_id', or none that is a text"
    if str(value.get("method", "POST")).upper() != "POST":
        return "the 'method' is not POST"
    if not isinstance(value.get("body"), dict):
        return "no 'body', or none that is an object"
    url = value.get("url")
    if not isinstance(url, str) or url.removeprefix("/v1") not in PATHS:
        return f"the 'url' is none of {', '.join(f'/v1{path}' for path in PATHS)}"
    return None


def _wrong_body(url: str, body: Mapping[str, Any]) -> str | None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "the body names no 'model'"
    if body.get("stream"):
        return "'stream' is set: answers come whole into the output file"
    needed = _INPUTS[url.removeprefix("/v1")]
    if not body.get(needed) or not isinstance(body[needed], list | str):
        return f"the body has no {needed!r}"
    return None
