"""The ledger's tables.

Bulk tables (documents, chunks, items, results, usage) have natural keys that the writer counts up itself: loading
needs no round trip for a number, and a row written twice meets itself. They carry no foreign keys: a check a row
would cost more than the row, and only this package writes them. Indexes with a condition: `whole_schema`.

Shards hold every counter of a job, so that a summary is a sum over shards, never a count over items.
Times named `…_at` are epoch seconds (UTC), but `lease_until`, `sent_at`, `not_before` and `seen_at` are read on the
lease clock: see `corpusmill.ledger.clock`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, text

from corpusmill.ledger.base import Base, Col, column
from corpusmill.ledger.types import BigId, Json

# Rows found by their key alone live in the key's own tree: one look-up instead of two.
CLUSTERED = {"sqlite_with_rowid": False}


class Meta(Base):
    """Single facts: the salt of key fingerprints, the boot that wrote the leases, the limiter's scopes in use."""

    __tablename__ = "meta"
    name: Col[str] = column(String(64), primary_key=True)
    value: Col[bytes]


class Collection(Base):
    """Documents that are kept together. A job made from plain sources has a nameless one of its own.

    The rest is a named one's: how its sources become chunks, its last complete version, and the numbers to come.
    """

    __tablename__ = "collections"
    id: Col[int] = column(BigId, primary_key=True)
    name: Col[str | None] = column(unique=True)
    created_at: Col[float]
    shape: Col[Any | None] = column(Json)
    active_set: Col[int | None] = column(BigInteger)
    version: Col[int | None] = column(BigInteger)
    next_version: Col[int | None] = column(BigInteger)
    next_file: Col[int | None] = column(BigInteger)
    next_document: Col[int | None] = column(BigInteger)
    next_chunk: Col[int | None] = column(BigInteger)


class Document(Base):
    """A source file, one record of a line file, or one line of a request file.

    That of a named collection never changes: an edit, a move or other metadata is a new row, and ends the old one. It
    is there in the versions from `from_version` to before `until_version`. `place` orders the documents as their
    sources have them; its chunks are the `chunks` from `first_chunk` on, which rows of one content share.
    """

    __tablename__ = "documents"
    __table_args__ = (CLUSTERED,)
    collection_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    document_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    source: Col[str]
    record_id: Col[str] = column("id")
    line: Col[int | None]
    extra: Col[Any | None] = column("metadata", Json)
    place: Col[bytes | None]
    digest: Col[bytes | None]
    first_chunk: Col[int | None] = column(BigInteger)
    chunks: Col[int | None] = column(BigInteger)
    from_version: Col[int | None] = column(BigInteger)
    until_version: Col[int | None] = column(BigInteger)


class Chunk(Base):
    """A piece of a document: its text, or the raw body of a request line.

    In a named collection it has its number of tokens, or why it cannot be sent, as `[class, message]`.
    """

    __tablename__ = "chunks"
    collection_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    document_no: Col[int] = column(BigInteger)
    chunk: Col[int]
    start_offset: Col[int] = column(BigInteger)
    end_offset: Col[int] = column(BigInteger)
    text: Col[str | None]
    body: Col[bytes | None]
    tokens: Col[int | None] = column(BigInteger)
    problem: Col[Any | None] = column(Json)


class Job(Base):
    """One request for work. `key` makes it one job however often it is asked for.

    `items`, `documents` and `input_tokens` grow while loading. `shards_open` are shards that still have something to
    do before the job is finished or `first` is reached. `set_aside`, in USD and in tokens, is what budgets have
    to cover: spent, unknown and reserved; kept only for a job that has one.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state"), Index("jobs_by_name", "name"))
    id: Col[int] = column(BigId, primary_key=True)
    public_id: Col[str] = column(String(16), unique=True)
    key: Col[bytes] = column(unique=True)
    collection_id: Col[int] = column(ForeignKey("collections.id", ondelete="RESTRICT"))
    name: Col[str | None]
    kind: Col[str] = column(String(16))
    queue_kind: Col[str] = column(String(16))
    model: Col[str]
    provider: Col[str]
    endpoint: Col[str]
    key_fingerprint: Col[str] = column(String(64))
    spec: Col[Any] = column(Json)
    state: Col[str] = column(String(16))
    reason: Col[str | None] = column(String(16))
    note: Col[str | None]
    priority: Col[str] = column(String(8))
    labels: Col[Any] = column(Json)
    cache: Col[bool]
    shard_size: Col[int]
    items: Col[int] = column(BigInteger)
    documents: Col[int] = column(BigInteger)
    input_tokens: Col[int] = column(BigInteger)
    shards_open: Col[int]
    budget_usd: Col[Decimal | None]
    set_aside: Col[Decimal]
    first: Col[int | None] = column(BigInteger)
    out: Col[str | None]
    errors_out: Col[str | None]
    detached: Col[bool]
    price_card: Col[Any | None] = column(Json)
    created_at: Col[float]
    committed_at: Col[float | None]
    finished_at: Col[float | None]
    flex: Col[str | None] = column(String(8))
    max_share: Col[float | None]
    budget_tokens: Col[int | None] = column(BigInteger)
    set_aside_tokens: Col[int] = column(BigInteger, server_default="0")


class Item(Base):
    """One unit of a job. Its shard is `item_no // job.shard_size`; without a key it failed at intake."""

    __tablename__ = "items"
    __table_args__ = (CLUSTERED,)
    job_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Col[int] = column(BigInteger)
    key: Col[bytes | None]
    tokens: Col[int]


class Shard(Base):
    """Neighbouring items of a job that one worker holds together, and their counters.

    `done` if and only if `succeeded + failed >= goal`, once its owner, or whoever set the goal, has looked. `goal` is
    `size`, or less while `--first` holds the rest back. `deaths` are claims that did not end in order, with the one
    that is under way: see `corpusmill.ledger.suspects`.
    """

    __tablename__ = "shards"
    job_id: Col[int] = column(ForeignKey("jobs.id", ondelete="RESTRICT"), primary_key=True, autoincrement=False)
    shard_no: Col[int] = column(primary_key=True, autoincrement=False)
    size: Col[int]
    goal: Col[int]
    done: Col[bool]
    owner: Col[str | None]
    fence: Col[int]
    lease_until: Col[float | None]
    sent_at: Col[float | None]
    not_before: Col[float | None]
    succeeded: Col[int]
    failed: Col[int]
    cached: Col[int]
    truncated: Col[int]
    requests: Col[int]
    prompt_tokens: Col[int] = column(BigInteger)
    completion_tokens: Col[int] = column(BigInteger)
    max_completion: Col[int]
    usd: Col[Decimal]
    unknown_usd: Col[Decimal]
    unknown_attempts: Col[int]
    unpriced: Col[int]
    reserved: Col[Decimal]
    last_at: Col[float | None]
    deaths: Col[int] = column(server_default="0")
    unknown_tokens: Col[int] = column(BigInteger, server_default="0")
    reserved_tokens: Col[int] = column(BigInteger, server_default="0")


UNDONE = text("NOT shards.done")
"""A shard that still has something to do, in the words of its indexes: `done IS false` would not use them."""


class Answer(Base):
    """What was paid for, once a content key. This is the response cache.

    `body` is zstd-compressed JSON, or raw float32 when `vector`. `output` is the text in it, for SQL to read.
    """

    __tablename__ = "answers"
    key: Col[bytes] = column(primary_key=True)
    vector: Col[bool]
    body: Col[bytes]
    output: Col[str | None]
    model: Col[str]
    tier: Col[str | None]
    finish_reason: Col[str | None]
    truncated: Col[bool]
    prompt_tokens: Col[int]
    cached_tokens: Col[int]
    completion_tokens: Col[int]
    reasoning_tokens: Col[int]
    at: Col[float]


class Result(Base):
    """How an item ended. Without `error_class` it succeeded, by the answer under the item's key."""

    __tablename__ = "results"
    __table_args__ = (CLUSTERED,)
    job_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    cached: Col[bool]
    error_class: Col[str | None]
    error: Col[str | None]
    attempts: Col[int]
    request_id: Col[str | None]
    at: Col[float]


class Usage(Base):
    """What one attempt cost one job. A paid row stays; its price, or an unknown outcome, may become known later.

    `item_no` is there if a paid reply brought nothing: the item that was asked for, of a pack the first.
    """

    __tablename__ = "usage"
    __table_args__ = (CLUSTERED,)
    job_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    attempt_id: Col[bytes] = column(primary_key=True)
    shard_no: Col[int]
    provider: Col[str]
    model: Col[str]
    tier: Col[str | None]
    items: Col[int]
    prompt_tokens: Col[int]
    cached_tokens: Col[int]
    cache_write_tokens: Col[int]
    completion_tokens: Col[int]
    reasoning_tokens: Col[int]
    usd: Col[Decimal | None]
    outcome: Col[str] = column(String(8))
    request_id: Col[str | None]
    latency_ms: Col[int | None]
    at: Col[float]
    item_no: Col[int | None] = column(BigInteger)


class Worker(Base):
    """A worker process and what it can serve; live while `seen_at` is less than `lease_s` ago."""

    __tablename__ = "workers"
    id: Col[str] = column(primary_key=True)
    host: Col[str]
    pid: Col[int]
    boot_id: Col[str]
    slots: Col[int]
    holds: Col[Any] = column(Json)
    seen_at: Col[float]
    lease_s: Col[float]


class LimitRule(Base):
    """What a person says a provider (and model; '' for all) allows. Rows are only added; the newest one holds."""

    __tablename__ = "limit_rules"
    id: Col[int] = column(BigId, primary_key=True)
    provider: Col[str]
    model: Col[str]
    rpm: Col[int | None] = column(BigInteger)
    tpm: Col[int | None] = column(BigInteger)
    rpd: Col[int | None] = column(BigInteger)
    tpd: Col[int | None] = column(BigInteger)
    burst_s: Col[float | None]
    removed: Col[bool]
    at: Col[float]


class CollectionFile(Base):
    """A file that a named collection was read from: its digest, and the times and size by which it is known again."""

    __tablename__ = "collection_files"
    __table_args__ = (CLUSTERED,)
    collection_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    file_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    source: Col[str]
    path: Col[str]
    place: Col[bytes]
    format: Col[str] = column(String(16))
    digest: Col[bytes]
    size: Col[int] = column(BigInteger)
    mtime_ns: Col[int | None] = column(BigInteger)
    ctime_ns: Col[int | None] = column(BigInteger)
    documents: Col[int] = column(BigInteger)
    from_version: Col[int] = column(BigInteger)
    until_version: Col[int | None] = column(BigInteger)


class EmbeddingSet(Base):
    """The vectors of a collection by one model and length. Readers see `version`, the last complete one in it.

    While it is brought to the version `target`, `job_id` embeds what it lacks.
    """

    __tablename__ = "embedding_sets"
    __table_args__ = (Index("embedding_sets_by_name", "collection_id", "name", unique=True),)
    id: Col[int] = column(BigId, primary_key=True)
    collection_id: Col[int] = column(BigInteger)
    name: Col[str]
    provider: Col[str]
    spec: Col[Any] = column(Json)
    state: Col[str] = column(String(16))
    version: Col[int | None] = column(BigInteger)
    job_id: Col[int | None] = column(BigInteger)
    target: Col[int | None] = column(BigInteger)
    keep_until: Col[float | None]
    created_at: Col[float]
    activated_at: Col[float | None]
    keep_s: Col[float | None]


class SetVector(Base):
    """The vector of a chunk in a set: the answer under `key`. With `error_class` there is none, and never will be."""

    __tablename__ = "set_vectors"
    __table_args__ = (CLUSTERED,)
    set_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    key: Col[bytes | None]
    error_class: Col[str | None]
    error: Col[str | None]


class CollectionVersion(Base):
    """One sync: what it was made from, what it changed, and what it cost. `owner` writes it while `seen_at` is fresh.

    Rows numbered from `first_…` on are its own, so one that came to nothing can be taken back.
    """

    __tablename__ = "collection_versions"
    collection_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    version_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    set_id: Col[int] = column(BigInteger)
    state: Col[str] = column(String(16))
    owner: Col[str | None]
    seen_at: Col[float | None]
    sources: Col[bytes]
    first_file: Col[int] = column(BigInteger)
    first_document: Col[int] = column(BigInteger)
    first_chunk: Col[int] = column(BigInteger)
    job_id: Col[int | None] = column(BigInteger)
    counts: Col[Any] = column(Json)
    started_at: Col[float]
    finished_at: Col[float | None]


class Output(Base):
    """A file that a job's results were written to, and what was written: only such a file is replaced unasked."""

    __tablename__ = "outputs"
    job_id: Col[int] = column(ForeignKey("jobs.id", ondelete="RESTRICT"), primary_key=True, autoincrement=False)
    path: Col[str] = column(primary_key=True)
    digest: Col[str]
    at: Col[float]


class InFlight(Base):
    """A content key that a shard is paying for right now; void once that shard's lease under `fence` is over."""

    __tablename__ = "in_flight"
    __table_args__ = (Index("in_flight_by_shard", "job_id", "shard_no"), CLUSTERED)
    key: Col[bytes] = column(primary_key=True)
    job_id: Col[int] = column(BigInteger)
    shard_no: Col[int]
    fence: Col[int]


class Suspect(Base):
    """An item that was handed out when a worker died in a trial, or is being tried under `fence`."""

    __tablename__ = "suspects"
    __table_args__ = (CLUSTERED,)
    job_id: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Col[int] = column(BigInteger, primary_key=True, autoincrement=False)
    shard_no: Col[int]
    deaths: Col[int]
    fence: Col[int]
