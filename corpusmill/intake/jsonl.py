"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import orjson

from corpusmill.intake.clean import bad_character, clean_tree
from corpusmill.intake.opening import numbered_lines, opened
from corpusmill.intake.records import record_of
from corpusmill.intake.shapes import BadLine, Reading, Record, SourceFile

_MEND = "mend the line, or leave such lines out: --skip-invalid"


def read(file: SourceFile, reading: Reading) -> Iterator[Record | BadLine]:
    """The records of a JSONL file."""
    with opened(file) as stream:
        for line in numbered_lines(stream):
            yield line if isinstance(line, BadLine) else _record(*line, reading)


def _record(number: int, line: bytes, reading: Reading) -> Record | BadLine:
    try:
        value, bad_text = parse(line)
    except ValueError as error:
        return BadLine(number, str(error), _MEND)
    if not isinstance(value, dict):
        return BadLine(number, "the line is JSON, but not an object", _MEND)
    return record_of(number, value, reading, bad_text)


def parse(line: bytes) -> tuple[Any, str | None]:
    """The cleaned JSON value of a line, and what the first bad text in it was, if any.

    Raises:
        ValueError: the line is no JSON; the message says where, never what.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _mended(line, error)
    bad = _first_bad(value) if b"\\u0000" in line else None
    return (value, None) if bad is None else (clean_tree(value), bad)


def _mended(line: bytes, error: orjson.JSONDecodeError) -> tuple[Any, str]:
    """Parse a line that orjson refuses, if bad text is the only thing wrong with it."""
    bad = _invalid_utf8(line)
    try:
        value = json.loads(line.decode("utf-8", errors="replace"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    bad = bad or _first_bad(value)
    if bad is None:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}")
    return clean_tree(value), bad


def _invalid_utf8(line: bytes) -> str | None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start:,} of the line"
    return None


def _first_bad(value: Any) -> str | None:
    if isinstance(value, str):
        return bad_character(value)
    if isinstance(value, list):
        return next((bad for item in value if (bad := _first_bad(item))), None)
    if isinstance(value, dict):
        return next((bad for pair in value.items() for item in pair if (bad := _first_bad(item))), None)
    return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
