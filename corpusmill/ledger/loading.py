"""Items into the ledger: in source order, in transactions of a few thousand rows, each after the last.

Two commands may load one job at once, for instance two shells that submitted the same. Each says after how many items
it goes on; under the job's lock only the one that is right writes, and both learn where the job stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Connection, Row, and_, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger import goals, shards
from corpusmill.ledger.bulk import append_rows, table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.models import Chunk, Document, Item, Job, Result, Shard
from corpusmill.ledger.records import Mark, NewItem

MAX_ROWS = 5_000
_AGAIN = "run the same command again to go on"
_DOCUMENT = ("collection_id", "document_no", "source", "id", "line", "metadata")
_CHUNK = ("collection_id", "chunk_no", "document_no", "chunk", "start_offset", "end_offset", "text", "body")
_ITEM = ("job_id", "item_no", "chunk_no", "key", "tokens")
_FAILURE = ("job_id", "item_no", "cached", "error_class", "error", "attempts", "request_id", "at")
_Row = tuple[Any, ...]


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
    documents = append_items(conn, cast("Place", job), items)
    failures = _failures(job, items, read_clock(conn).wall_s)
    append_rows(conn, Result, _FAILURE, failures)
    grow_shards(conn, job, len(items), failures)
    total = int(job.items) + len(items)
    counted = {
        "items": total,
        "documents": job.documents + documents,
        "input_tokens": job.input_tokens + sum(item.tokens for item in items),
    }
    conn.execute(update(Job).where(Job.id == job_id).values(**counted))
    return total


def mark(conn: Connection, job_id: int) -> Mark | None:
    """How far a job is loaded; None: it holds nothing yet."""
    job = conn.execute(select(Job.items, Job.collection_id).where(Job.id == job_id)).one()
    last = (
        select(Document.source, Document.line, Chunk.chunk)
        .join(Chunk, and_(Chunk.collection_id == Document.collection_id, Chunk.document_no == Document.document_no))
        .join(Item, Item.chunk_no == Chunk.chunk_no)
        .where(Document.collection_id == job.collection_id)
        .where(Item.job_id == job_id, Item.item_no == job.items - 1)
    )
    found = conn.execute(last).one_or_none()
    return None if found is None else Mark(int(job.items), *found)


def append_items(conn: Connection, job: Place, items: Sequence[NewItem]) -> int:
    """Append items with their chunks and documents; the first chunk may belong to the last document there is.

    Returns the number of new documents.
    """
    documents: list[_Row] = []
    chunks: list[_Row] = []
    rows: list[_Row] = []
    collection_id, job_id = job.collection_id, job.id
    current, document_no = _last_document(conn, job), job.documents - 1
    for number, item in enumerate(items, start=job.items):
        if (item.source, item.id) != current:
            current, document_no = (item.source, item.id), document_no + 1
            extra = None if item.metadata is None else dict(item.metadata)
            documents.append((collection_id, document_no, item.source, item.id, item.line, extra))
        chunks.append((collection_id, number, document_no, item.chunk, item.start, item.end, item.text, item.body))
        rows.append((job_id, number, number, None if item.problem else item.key, item.tokens))
    append_rows(conn, Document, _DOCUMENT, documents)
    append_rows(conn, Chunk, _CHUNK, chunks)
    append_rows(conn, Item, _ITEM, rows)
    return len(documents)


def _last_document(conn: Connection, job: Place) -> tuple[str, str] | None:
    last = select(Document.source, Document.record_id).where(
        Document.collection_id == job.collection_id, Document.document_no == job.documents - 1
    )
    found = conn.execute(last).one_or_none()
    return None if found is None else (found[0], found[1])


def _failures(job: Row[Any], items: Sequence[NewItem], at: float) -> list[_Row]:
    """Results of the items that failed before any call."""
    return [
        (job.id, number, False, *item.problem, 0, None, at)
        for number, item in enumerate(items, start=job.items)
        if item.problem
    ]


def grow_shards(conn: Connection, job: Row[Any], count: int, failures: Sequence[_Row] = ()) -> None:
    """Shards for the new items; those that come first may still go into the shard that is there."""
    sizes = Counter(number // job.shard_size for number in range(job.items, job.items + count))
    failed = Counter(item_no // job.shard_size for _, item_no, *_ in failures)
    last = (job.items - 1) // job.shard_size
    if more := sizes.pop(last, 0):
        shard = table_of(Shard).c
        by = {"size": more, "goal": more, "failed": failed[last]}
        grown = {name: shard[name] + number for name, number in by.items()}
        conn.execute(update(Shard).where(Shard.job_id == job.id, Shard.shard_no == last).values(**grown))
    rows = [new_shard(job.id, number, size, failed[number]) for number, size in sorted(sizes.items())]
    if rows:
        append_rows(conn, Shard, tuple(rows[0]), [tuple(row.values()) for row in rows])


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
    "unknown_tokens",
    "unknown_attempts",
    "unpriced",
    "reserved",
    "reserved_tokens",
    "deaths",
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
