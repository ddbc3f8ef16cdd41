"""What the journal's records say, and their bytes.

A payload is the length of its header (4 bytes, little-endian), the header as JSON, and the bodies of the answers one
after another. Rows carry the names of their columns, so a version that knows more or fewer of them reads on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any

import orjson

from corpusmill.ledger.records import Answer, ItemResult, ShardRef, Usage

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Sent:
    """A call is about to be made; `estimates` are its usage rows should no reply ever come."""

    attempt_id: bytes
    estimates: Sequence[Usage]


@dataclass(frozen=True, slots=True)
class Reply:
    """A paid reply with all that goes into SQL for it."""

    attempt_id: bytes
    answers: Sequence[Answer]
    results: Sequence[ItemResult]
    usage: Sequence[Usage]


@dataclass(frozen=True, slots=True)
class Void:
    """The call is known not to have been paid for."""

    attempt_id: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """SQL has all of these attempts."""

    attempt_ids: Sequence[bytes]


Entry = Sent | Reply | Void | Done


def encoded(entry: Entry) -> bytes:
    """The payload of a record."""
    match entry:
        case Sent():
            return _payload({"kind": "sent", "attempt": entry.attempt_id, "usage": _table(Usage, entry.estimates)})
        case Reply():
            header = {
                "kind": "reply",
                "attempt": entry.attempt_id,
                "answers": _table(Answer, entry.answers),
                "bodies": [len(answer.body) for answer in entry.answers],
                "results": _table(ItemResult, entry.results),
                "usage": _table(Usage, entry.usage),
            }
            return _payload(header, [answer.body for answer in entry.answers])
        case Void():
            return _payload({"kind": "void", "attempt": entry.attempt_id})
        case Done():
            return _payload({"kind": "done", "attempts": entry.attempt_ids})


def decoded(payload: memoryview) -> Entry:
    """The record that `encoded` made.

    Raises:
        ValueError: it is of a kind that this version does not know.
    """
    (length,) = _LENGTH.unpack_from(payload)
    bodies_at = _LENGTH.size + length
    header = orjson.loads(payload[_LENGTH.size : bodies_at])
    kind = header["kind"]
    if kind == "done":
        return Done([bytes.fromhex(attempt) for attempt in header["attempts"]])
    if kind not in ("sent", "reply", "void"):
        raise ValueError(f"a record of kind {kind}")
    attempt_id = bytes.fromhex(header["attempt"])
    if kind == "void":
        return Void(attempt_id)
    usage = list(_rows(Usage, header["usage"]))
    if kind == "sent":
        return Sent(attempt_id, usage)
    bodies = _cut(payload[bodies_at:], header["bodies"])
    return Reply(
        attempt_id, list(_rows(Answer, header["answers"], bodies)), list(_rows(ItemResult, header["results"])), usage
    )


def _payload(header: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> bytes:
    head = orjson.dumps(header, default=_plain)
    return b"".join((_LENGTH.pack(len(head)), head, *bodies))


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


_Kind = type[Answer] | type[ItemResult] | type[Usage]
_COLUMNS: Mapping[_Kind, tuple[str, ...]] = {
    kind: tuple(column.name for column in fields(kind) if column.name != "body") for kind in (Answer, ItemResult, Usage)
}
_CELLS: Mapping[_Kind, Callable[[Any], Any]] = {kind: attrgetter(*columns) for kind, columns in _COLUMNS.items()}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "key": bytes.fromhex,
    "attempt_id": bytes.fromhex,
    "ref": lambda cell: ShardRef(**cell),
    "usd": Decimal,
}


def _table(kind: _Kind, rows: Sequence[Any]) -> dict[str, Any]:
    return {"columns": _COLUMNS[kind], "rows": list(map(_CELLS[kind], rows))}


def _rows(kind: _Kind, table: Mapping[str, Any], bodies: Sequence[bytes] = ()) -> Iterator[Any]:
    columns: list[str] = table["columns"]
    known = [(at, name, _READ.get(name)) for at, name in enumerate(columns) if name in _COLUMNS[kind]]
    for number, row in enumerate(table["rows"]):
        cells = {
            name: read(row[at]) if read is not None and row[at] is not None else row[at] for at, name, read in known
        }
        yield kind(**cells, body=bodies[number]) if kind is Answer else kind(**cells)


def _cut(data: memoryview, lengths: Sequence[int]) -> list[bytes]:
    bodies, at = [], 0
    for length in lengths:
        bodies.append(bytes(data[at : at + length]))
        at += length
    return bodies
