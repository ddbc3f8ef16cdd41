"""The records of a line file, whatever its format: each a `Record`, or a `BadLine` that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from corpusmill.intake.shapes import BadLine, Reading, Record, SourceFile


def records(file: SourceFile, reading: Reading) -> Iterator[Record | BadLine]:
    """The records of a line file in order. Memory: one record, whatever the size of the file."""
    return _reader(file)(file, reading)


def _reader(file: SourceFile) -> Callable[[SourceFile, Reading], Iterator[Record | BadLine]]:
    # Each format loads its reader on use: pyarrow is an extra.
    if file.format == "jsonl":
        from corpusmill.intake.jsonl import read
    elif file.format == "parquet":
        from corpusmill.intake.parquet import read
    else:
        from corpusmill.intake.table import read
    return read


def record_of(line: int, fields: Mapping[str, Any], reading: Reading, bad_text: str | None) -> Record | BadLine:
    """Split the cleaned fields of a record into id, text and metadata."""
    rest = dict(fields)
    if reading.text_field not in rest:
        what, fix = no_field(reading.text_field, rest), "name the field that holds the text: --text-field"
        return BadLine(line, what, fix, no_text=True)
    text = rest.pop(reading.text_field)
    if not isinstance(text, str | None):
        what = f"the field {reading.text_field!r} holds {_kind(text)}, not a text"
        return BadLine(line, what, "mend the record, or leave such records out: --skip-invalid")
    if reading.id_field is not None and reading.id_field not in fields:
        what, fix = no_field(reading.id_field, fields), "name the field that holds the id: --id-field"
        return BadLine(line, what, fix)
    given = rest.pop(reading.id_name, None)
    if isinstance(given, bool | list | dict):
        what = f"the field {reading.id_name!r} holds {_kind(given)}, not an id"
        return BadLine(line, what, "name the field that holds the id: --id-field")
    own_id = None if given is None or given == "" else str(given)
    return Record(line, own_id, text, rest or None, bad_text)


def header_error(names: Sequence[str], reading: Reading) -> tuple[str, str] | None:
    """What is wrong with the columns of a table, and what to do about it; None when the fields asked for are there."""
    for name, holds in ((reading.text_field, "text"), (reading.id_field, "id")):
        if name is not None and name not in names:
            fix = f"name the column that holds the {holds}: --{holds}-field"
            return no_field(name, dict.fromkeys(names)), fix
    return None


def no_field(name: str, fields: Mapping[str, Any]) -> str:
    """The complaint about a missing field, with the fields that there are."""
    there = ", ".join(list(fields)[:12]) or "none"
    return f"no field {name!r}; fields there: {there}"


def _kind(value: Any) -> str:
    names = {bool: "true or false", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")
