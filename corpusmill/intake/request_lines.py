"""The lines of a Batch request file: what each has to hold, and what of it is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from corpusmill.errors import SourceError
from corpusmill.intake.shapes import BadLine, SourceFile
from corpusmill.intake.validating import Tally, error_at
from corpusmill.tokens import Encoding

_INPUTS = {"/chat/completions": "messages", "/embeddings": "input", "/responses": "input", "/completions": "prompt"}
PATHS = tuple(_INPUTS)
"""What a request may ask for; in a file `/v1` may stand before it."""

_MEND = "mend the line, or leave such lines out: --skip-invalid"


@dataclass(frozen=True, slots=True)
class CheckedLine:
    """A request line that is in order, not counted yet. `raw` is the whole line."""

    line: int
    custom_id: str
    url: str
    body: Mapping[str, Any]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Checks:
    """How the lines of `file` are checked; all have the url of the file's first request, in line `line`."""

    file: SourceFile
    skip_invalid: bool
    url: str
    line: int

    def __call__(self, lines: Iterable[tuple[int, bytes] | BadLine], tally: Tally) -> Iterator[CheckedLine]:
        """The lines that are in order; `tally` is told of those that are left out.

        Raises:
            SourceError: a line is not in order and none may be left out, or it asks for a second url.
        """
        for request in in_order(lines, self.file, tally, skip_invalid=self.skip_invalid):
            if request.url != self.url:
                what = f"two urls in one file: {self.url} in line {self.line}, {request.url} in line {request.line}"
                fix = "write one file for each url"
                raise SourceError(what, path=str(self.file.path), line=request.line, next_step=fix)
            yield request


def in_order(
    lines: Iterable[tuple[int, bytes] | BadLine], file: SourceFile, tally: Tally, *, skip_invalid: bool
) -> Iterator[CheckedLine]:
    """The lines that are in order, each by itself. Raises SourceError for another, unless such are left out."""
    for line in lines:
        request = line if isinstance(line, BadLine) else _request(*line)
        if not isinstance(request, BadLine):
            yield request
        elif skip_invalid:
            tally.skipped.add(file, request.line, request.what)
        else:
            raise error_at(file, request)


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


def _request(number: int, line: bytes) -> CheckedLine | BadLine:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadLine(number, f"not JSON: {error.msg} at column {error.colno}", _MEND)
    if not isinstance(value, dict):
        return BadLine(number, "the line is JSON, but not an object", _MEND)
    wrong = _wrong_envelope(value) or _wrong_body(value["url"], value["body"])
    if wrong:
        return BadLine(number, wrong, _MEND)
    return CheckedLine(number, value["custom_id"], value["url"], value["body"], line)


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
