"""Parquet, through pyarrow (the extra `parquet`): one record a row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from corpusmill.errors import SourceError
from corpusmill.intake.clean import bad_character, clean_tree
from corpusmill.intake.opening import opened
from corpusmill.intake.records import header_error, record_of
from corpusmill.intake.shapes import BadLine, Reading, Record, SourceFile

# Rows in memory at a time.
_BATCH = 1_000


def read(file: SourceFile, reading: Reading) -> Iterator[Record | BadLine]:
    """The records of a Parquet file; their line is the row, from 1. Values JSON has no form for become text."""
    import pyarrow
    import pyarrow.parquet as parquet

    with opened(file) as stream:
        try:
            yield from _records(parquet.ParquetFile(stream), file, reading)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            what = f"not a Parquet file that can be read: {str(error).splitlines()[0]}"
            raise SourceError(what, path=str(file.path), next_step="write the file again") from error


def _records(table: Any, file: SourceFile, reading: Reading) -> Iterator[Record | BadLine]:
    names = table.schema_arrow.names
    if wrong := header_error(names, reading):
        raise SourceError(wrong[0], path=str(file.path), next_step=wrong[1])
    row = 0
    for batch in table.iter_batches(batch_size=_BATCH):
        for fields in batch.to_pylist():
            row += 1
            fields = {name: _plain(value) for name, value in fields.items()}
            bad = next(
                (bad for value in fields.values() if isinstance(value, str) and (bad := bad_character(value))), None
            )
            yield record_of(row, clean_tree(fields), reading, bad)


def _plain(value: Any) -> Any:
    """A value that JSON has a form for."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)
