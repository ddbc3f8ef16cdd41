"""Results as Parquet, written a group of rows at a time (extra `parquet`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

import orjson

from corpusmill.export.lines import completion, floats, index
from corpusmill.export.rows import Row, body_of

# 4,096 vectors of 3,072 numbers are 48 MB: a group that readers skip well and memory holds easily.
_GROUP_ROWS = 4096


def write_completions(file: BinaryIO, rows: Iterable[Row]) -> int:
    """Write the columns of a completion's line; `metadata` is JSON text. Returns the number of rows."""
    import pyarrow as pa

    schema = pa.schema(
        [
            *_origin(pa),
            ("output", pa.string()),
            ("finish_reason", pa.string()),
            ("model", pa.string()),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("cached", pa.bool_()),
            ("metadata", pa.string()),
        ]
    )
    groups = ([completion(row) for row in group] for group in _groups(rows))
    return _write(file, schema, groups)


def write_embeddings(file: BinaryIO, rows: Iterable[Row], *, dimensions: int | None) -> int:
    """Write the columns of an embedding, the vector as a list of fixed size; returns the number of rows."""
    import pyarrow as pa

    groups = _groups(rows)
    first = next(groups, [])
    size = len(body_of(first[0])) // 4 if first else dimensions or 0
    schema = pa.schema(
        [
            *_origin(pa),
            ("embedding", pa.list_(pa.float32(), size)),
            ("model", pa.string()),
            ("prompt_tokens", pa.int64()),
            ("cached", pa.bool_()),
            ("metadata", pa.string()),
        ]
    )
    dictionaries = ([_embedding(row) for row in group] for group in chain([first], groups) if group)
    return _write(file, schema, dictionaries)


def _origin(pa: Any) -> list[tuple[str, Any]]:
    return [
        ("id", pa.string()),
        ("source", pa.string()),
        ("chunk", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]


def _embedding(row: Row) -> dict[str, Any]:
    return {**index(0, row), "embedding": floats(body_of(row))}


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while group := list(islice(remaining, _GROUP_ROWS)):
        yield group


def _write(file: BinaryIO, schema: Any, groups: Iterable[list[dict[str, Any]]]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in groups:
            columns = {field.name: [_cell(row[field.name]) for row in group] for field in schema}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(group)
    return count


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict) else value
