"""Output and error lines as OpenAI's Batch writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import orjson

from corpusmill.export.lines import line
from corpusmill.export.rows import Row, body_of


def write_outputs(file: BinaryIO, rows: Iterable[Row], *, job: str) -> int:
    """Write an output line a request that succeeded; returns how many."""
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007
        file.write(line(output(row, job=job)))
    return count


def write_errors(file: BinaryIO, rows: Iterable[Row], *, job: str) -> int:
    """Write an error line a request that failed; returns how many."""
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007
        file.write(line(error(row, job=job)))
    return count


def output(row: Row, *, job: str) -> dict[str, Any]:
    """The endpoint's whole body, byte for byte, in a Batch output line."""
    # In JSON a line break can only stand between tokens, where a space means the same; a line must have none.
    body = body_of(row).strip().translate(_ON_ONE_LINE)
    response = {"status_code": 200, "request_id": row.request_id, "body": orjson.Fragment(body)}
    return {"id": _id(row, job), "custom_id": row.id, "response": response, "error": None}


def error(row: Row, *, job: str) -> dict[str, Any]:
    """Why a request failed, in a Batch error line."""
    what = {"code": row.error_class, "message": row.error}
    return {"id": _id(row, job), "custom_id": row.id, "response": None, "error": what}


def _id(row: Row, job: str) -> str:
    return f"batch_req_{job}_{row.item_no}"


_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
