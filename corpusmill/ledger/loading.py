"""Items into the ledger: in source order, in transactions of a few thousand rows, each after the last.

Two commands may load one job at once, for instance two shells that submitted the same. Each says after how many items
it goes on; under the job's lock only the one that is right writes, and both learn where the job stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Connection, Row, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import goals, shards
from corpusmill.ledger.bulk import copy_in, table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Chunk, Document, Item, Job, Result, Shard
from corpusmill.ledger.records import NewItem

MAX_ROWS = 5_000
_AGAIN = "run the same command again to go on"
_Rows = list[dict[str, Any]]


class Place(Protocol):
    """What rows need to know of their job: its row, or where in it they begin."""

    @property
    def id(self) -> int:
        """The job's number."""

    @property
    def collection_id(self) -> int:
        """Its collection."""

    @property
    def items(self) -> int:
        """The number of the first item to come."""

    @property
    def documents(self) -> int:
        """The number of the first document to come."""


def load(conn: Connection, job_id: int, items: Sequence[NewItem], *, after: int) -> int:
    """Append `items` if the job is still loading and holds exactly `after` items; return how many it holds now."""
    if len(items) > MAX_ROWS:
        raise ValueError(f"{len(items)} items in one transaction, {MAX_ROWS} are allowed")
    job = conn.execute(select(table_of(Job)).where(Job.id == job_id).with_for_update()).one()
    if job.state == "cancelled" and job.committed_at is None:
        raise UsageError(f"job {job.public_id} was cancelled while it was loading", next_step=_AGAIN)
    if job.state != "loading" or job.items != after or not items:
        return int(job.items)
    documents, chunks, rows = new_rows(conn, cast("Place", job), items)
    copy_in(conn, Document, documents)
    copy_in(conn, Chunk, chunks)
    copy_in(conn, Item, rows)
    failures = _failures(job, items, read_clock(conn).wall_s)
    copy_in(conn, Result, failures)
    _grow_shards(conn, job, len(items), failures)
    total = int(job.items) + len(items)
    counted = {
        "items": total,
        "documents": job.documents + len(documents),
        "input_tokens": job.input_tokens + sum(item.tokens for item in items),
    }
    conn.execute(update(Job).where(Job.id == job_id).values(**counted))
    return total


def new_rows(conn: Connection, job: Place, items: Sequence[NewItem]) -> tuple[_Rows, _Rows, _Rows]:
    """New documents, chunks and items; the first chunk may belong to the last document of the load before."""
    documents: _Rows = []
    chunks: _Rows = []
    rows: _Rows = []
    current, document_no = _last_document(conn, job), job.documents - 1
    for number, item in enumerate(items, start=job.items):
        if (item.source, item.id) != current:
            current, document_no = (item.source, item.id), document_no + 1
            documents.append(_document(job, document_no, item))
        chunks.append(_chunk(job, number, document_no, item))
        key = None if item.problem else item.key
        rows.append({"job_id": job.id, "item_no": number, "chunk_no": number, "key": key, "tokens": item.tokens})
    return documents, chunks, rows


def _last_document(conn: Connection, job: Place) -> tuple[str, str] | None:
    last = select(Document.source, Document.record_id).where(
        Document.collection_id == job.collection_id, Document.document_no == job.documents - 1
    )
    found = conn.execute(last).one_or_none()
    return None if found is None else (found[0], found[1])


def _document(job: Place, number: int, item: NewItem) -> dict[str, Any]:
    return {
        "collection_id": job.collection_id,
        "document_no": number,
        "source": item.source,
        "id": item.id,
        "line": item.line,
        "metadata": None if item.metadata is None else dict(item.metadata),
    }


def _chunk(job: Place, number: int, document_no: int, item: NewItem) -> dict[str, Any]:
    return {
        "collection_id": job.collection_id,
        "chunk_no": number,
        "document_no": document_no,
        "chunk": item.chunk,
        "start_offset": item.start,
        "end_offset": item.end,
        "text": item.text,
        "body": item.body,
    }


def _failures(job: Row[Any], items: Sequence[NewItem], at: float) -> _Rows:
    """Results of the items that failed before any call."""
    return [
        {
            "job_id": job.id,
            "item_no": number,
            "cached": False,
            "error_class": item.problem[0],
            "error": item.problem[1],
            "attempts": 0,
            "request_id": None,
            "at": at,
        }
        for number, item in enumerate(items, start=job.items)
        if item.problem
    ]


def _grow_shards(conn: Connection, job: Row[Any], count: int, failures: _Rows) -> None:
    sizes = Counter(number // job.shard_size for number in range(job.items, job.items + count))
    failed = Counter(row["item_no"] // job.shard_size for row in failures)
    rows = [new_shard(job.id, number, size, failed[number]) for number, size in sorted(sizes.items())]
    statement = upsert(conn, Shard).values(rows)
    shard, new = table_of(Shard).c, statement.excluded
    grown = {name: shard[name] + new[name] for name in ("size", "goal", "failed")}
    conn.execute(statement.on_conflict_do_update(index_elements=["job_id", "shard_no"], set_=grown))


def new_shard(job_id: int, number: int, size: int, failed: int) -> dict[str, Any]:
    """The row of a shard that nobody has worked on, `failed` of whose items failed before any call."""
    zero = dict.fromkeys(_COUNTERS, 0)
    names = {"job_id": job_id, "shard_no": number, "size": size, "goal": size, "done": False, "fence": 0}
    return {**zero, **names, "failed": failed}


_COUNTERS = (
    "succeeded",
    "failed",
    "cached",
    "truncated",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "max_completion",
    "usd",
    "unknown_usd",
    "unknown_attempts",
    "unpriced",
    "reserved",
)


def commit(conn: Connection, job_id: int) -> None:
    """The source is loaded whole: from now on the job can be fed. A job with nothing open is finished at once."""
    shards.lock_all(conn, job_id)
    job = conn.execute(select(Job.state, Job.first).where(Job.id == job_id).with_for_update()).one()
    if job.state != "loading":
        return
    at = read_clock(conn).wall_s
    conn.execute(update(Shard).where(Shard.job_id == job_id, Shard.failed > 0).values(last_at=at))
    conn.execute(update(Job).where(Job.id == job_id).values(state="queued", committed_at=at))
    goals.set_first(conn, job_id, job.first, at)
