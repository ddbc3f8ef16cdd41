"""The ledger's tables.

Bulk tables (documents, chunks, items, results, usage) have natural keys that the writer counts up itself: loading
needs no round trip for a number, and a row written twice meets itself. They carry no foreign keys: a check a row
would cost more than the row, and only this package writes them.

Shards hold every counter of a job, so that a summary is a sum over shards, never a count over items.
Times named `…_at` are epoch seconds (UTC), but `lease_until`, `sent_at`, `not_before` and `seen_at` are read on the
lease clock: see `corpusmill.ledger.clock`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from corpusmill.ledger.types import BigId, Json, Usd


class Base(DeclarativeBase):
    """All tables of the ledger."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        int: Integer,
        float: Double,
        bytes: LargeBinary,
        str: Text,
        bool: Boolean,
        Decimal: Usd,
    }


# Rows found by their key alone live in the key's own tree: one look-up instead of two.
CLUSTERED = {"sqlite_with_rowid": False}


class Meta(Base):
    """Single facts: the salt of key fingerprints, the boot that wrote the leases, the limiter's scopes in use."""

    __tablename__ = "meta"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[bytes]


class Collection(Base):
    """Documents that are kept together. A job made from plain sources has a nameless one of its own.

    The rest is a named one's: how its sources become chunks, its last complete version, and the numbers to come.
    """

    __tablename__ = "collections"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[float]
    shape: Mapped[Any | None] = mapped_column(Json)
    active_set: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int | None] = mapped_column(BigInteger)
    next_version: Mapped[int | None] = mapped_column(BigInteger)
    next_file: Mapped[int | None] = mapped_column(BigInteger)
    next_document: Mapped[int | None] = mapped_column(BigInteger)
    next_chunk: Mapped[int | None] = mapped_column(BigInteger)


class Document(Base):
    """A source file, one record of a line file, or one line of a request file.

    That of a named collection never changes: an edit, a move or other metadata is a new row, and ends the old one. It
    is there in the versions from `from_version` to before `until_version`. `place` orders the documents as their
    sources have them; its chunks are the `chunks` from `first_chunk` on, which rows of one content share.
    """

    __tablename__ = "documents"
    __table_args__ = (
        Index(
            "documents_by_place",
            "collection_id",
            "place",
            sqlite_where=text("place IS NOT NULL"),
            postgresql_where=text("place IS NOT NULL"),
        ),
        CLUSTERED,
    )
    collection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str]
    record_id: Mapped[str] = mapped_column("id")
    line: Mapped[int | None]
    extra: Mapped[Any | None] = mapped_column("metadata", Json)
    place: Mapped[bytes | None]
    digest: Mapped[bytes | None]
    first_chunk: Mapped[int | None] = mapped_column(BigInteger)
    chunks: Mapped[int | None] = mapped_column(BigInteger)
    from_version: Mapped[int | None] = mapped_column(BigInteger)
    until_version: Mapped[int | None] = mapped_column(BigInteger)


class Chunk(Base):
    """A piece of a document: its text, or the raw body of a request line.

    In a named collection it has its number of tokens, or why it cannot be sent, as `[class, message]`.
    """

    __tablename__ = "chunks"
    collection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document_no: Mapped[int] = mapped_column(BigInteger)
    chunk: Mapped[int]
    start_offset: Mapped[int] = mapped_column(BigInteger)
    end_offset: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str | None]
    body: Mapped[bytes | None]
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[Any | None] = mapped_column(Json)


class Job(Base):
    """One request for work. `key` makes it one job however often it is asked for.

    `items`, `documents` and `input_tokens` grow while loading. `shards_open` are shards that still have something to
    do before the job is finished or `first` is reached. `set_aside` is what a budget has to cover: spent, unknown and
    reserved; kept only for a job that has one.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state"), Index("jobs_by_name", "name"))
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    public_id: Mapped[str] = mapped_column(String(16), unique=True)
    key: Mapped[bytes] = mapped_column(unique=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="RESTRICT"))
    name: Mapped[str | None]
    kind: Mapped[str] = mapped_column(String(16))
    queue_kind: Mapped[str] = mapped_column(String(16))
    model: Mapped[str]
    provider: Mapped[str]
    endpoint: Mapped[str]
    key_fingerprint: Mapped[str] = mapped_column(String(64))
    spec: Mapped[Any] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(16))
    note: Mapped[str | None]
    priority: Mapped[str] = mapped_column(String(8))
    labels: Mapped[Any] = mapped_column(Json)
    cache: Mapped[bool]
    shard_size: Mapped[int]
    items: Mapped[int] = mapped_column(BigInteger)
    documents: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    shards_open: Mapped[int]
    budget_usd: Mapped[Decimal | None]
    set_aside: Mapped[Decimal]
    first: Mapped[int | None] = mapped_column(BigInteger)
    out: Mapped[str | None]
    errors_out: Mapped[str | None]
    detached: Mapped[bool]
    price_card: Mapped[Any | None] = mapped_column(Json)
    created_at: Mapped[float]
    committed_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    flex: Mapped[str | None] = mapped_column(String(8))
    max_share: Mapped[float | None]
    budget_tokens: Mapped[int | None] = mapped_column(BigInteger)


class Item(Base):
    """One unit of a job. Its shard is `item_no // job.shard_size`; without a key it failed at intake."""

    __tablename__ = "items"
    __table_args__ = CLUSTERED
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[bytes | None]
    tokens: Mapped[int]


class Shard(Base):
    """Neighbouring items of a job that one worker holds together, and their counters.

    `done` if and only if `succeeded + failed >= goal`, once its owner, or whoever set the goal, has looked. `goal` is
    `size`, or less while `--first` holds the rest back. `deaths` are claims that did not end in order, with the one
    that is under way: see `corpusmill.ledger.suspects`.
    """

    __tablename__ = "shards"
    __table_args__ = (
        Index(
            "shards_ready",
            "job_id",
            "shard_no",
            sqlite_where=text("NOT done AND sent_at IS NULL"),
            postgresql_where=text("NOT done AND sent_at IS NULL"),
        ),
        Index(
            "shards_sent",
            "job_id",
            "shard_no",
            sqlite_where=text("NOT done AND sent_at IS NOT NULL"),
            postgresql_where=text("NOT done AND sent_at IS NOT NULL"),
        ),
    )
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="RESTRICT"), primary_key=True, autoincrement=False
    )
    shard_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int]
    goal: Mapped[int]
    done: Mapped[bool]
    owner: Mapped[str | None]
    fence: Mapped[int]
    lease_until: Mapped[float | None]
    sent_at: Mapped[float | None]
    not_before: Mapped[float | None]
    succeeded: Mapped[int]
    failed: Mapped[int]
    cached: Mapped[int]
    truncated: Mapped[int]
    requests: Mapped[int]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    max_completion: Mapped[int]
    usd: Mapped[Decimal]
    unknown_usd: Mapped[Decimal]
    unknown_attempts: Mapped[int]
    unpriced: Mapped[int]
    reserved: Mapped[Decimal]
    last_at: Mapped[float | None]
    deaths: Mapped[int] = mapped_column(server_default="0")


UNDONE = text("NOT shards.done")
"""A shard that still has something to do, in the words of the indexes above: `done IS false` would not use them."""


class Answer(Base):
    """What was paid for, once a content key. This is the response cache.

    `body` is zstd-compressed JSON, or raw float32 when `vector`. `output` is the text in it, for SQL to read.
    """

    __tablename__ = "answers"
    key: Mapped[bytes] = mapped_column(primary_key=True)
    vector: Mapped[bool]
    body: Mapped[bytes]
    output: Mapped[str | None]
    model: Mapped[str]
    tier: Mapped[str | None]
    finish_reason: Mapped[str | None]
    truncated: Mapped[bool]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    at: Mapped[float]


class Result(Base):
    """How an item ended. Without `error_class` it succeeded, by the answer under the item's key."""

    __tablename__ = "results"
    __table_args__ = (
        Index(
            "results_failed",
            "job_id",
            "error_class",
            sqlite_where=text("error_class IS NOT NULL"),
            postgresql_where=text("error_class IS NOT NULL"),
        ),
        CLUSTERED,
    )
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    cached: Mapped[bool]
    error_class: Mapped[str | None]
    error: Mapped[str | None]
    attempts: Mapped[int]
    request_id: Mapped[str | None]
    at: Mapped[float]


class Usage(Base):
    """What one attempt cost one job. A paid row stays; its price, or an unknown outcome, may become known later.

    `item_no` is there if a paid reply brought nothing: the item that was asked for, of a pack the first.
    """

    __tablename__ = "usage"
    __table_args__ = (
        Index(
            "usage_wasted",
            "job_id",
            "item_no",
            sqlite_where=text("item_no IS NOT NULL"),
            postgresql_where=text("item_no IS NOT NULL"),
        ),
        CLUSTERED,
    )
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt_id: Mapped[bytes] = mapped_column(primary_key=True)
    shard_no: Mapped[int]
    provider: Mapped[str]
    model: Mapped[str]
    tier: Mapped[str | None]
    items: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    cache_write_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    reasoning_tokens: Mapped[int]
    usd: Mapped[Decimal | None]
    outcome: Mapped[str] = mapped_column(String(8))
    request_id: Mapped[str | None]
    latency_ms: Mapped[int | None]
    at: Mapped[float]
    item_no: Mapped[int | None] = mapped_column(BigInteger)


class Worker(Base):
    """A worker process and what it can serve; live while `seen_at` is less than `lease_s` ago."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    boot_id: Mapped[str]
    slots: Mapped[int]
    holds: Mapped[Any] = mapped_column(Json)
    seen_at: Mapped[float]
    lease_s: Mapped[float]


class LimitRule(Base):
    """What a person says a provider (and model; '' for all) allows. Rows are only added; the newest one holds."""

    __tablename__ = "limit_rules"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    provider: Mapped[str]
    model: Mapped[str]
    rpm: Mapped[int | None] = mapped_column(BigInteger)
    tpm: Mapped[int | None] = mapped_column(BigInteger)
    rpd: Mapped[int | None] = mapped_column(BigInteger)
    tpd: Mapped[int | None] = mapped_column(BigInteger)
    burst_s: Mapped[float | None]
    removed: Mapped[bool]
    at: Mapped[float]


class CollectionFile(Base):
    """A file that a named collection was read from: its digest, and the times and size by which it is known again."""

    __tablename__ = "collection_files"
    __table_args__ = CLUSTERED
    collection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    file_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str]
    path: Mapped[str]
    place: Mapped[bytes]
    format: Mapped[str] = mapped_column(String(16))
    digest: Mapped[bytes]
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int | None] = mapped_column(BigInteger)
    ctime_ns: Mapped[int | None] = mapped_column(BigInteger)
    documents: Mapped[int] = mapped_column(BigInteger)
    from_version: Mapped[int] = mapped_column(BigInteger)
    until_version: Mapped[int | None] = mapped_column(BigInteger)


class EmbeddingSet(Base):
    """The vectors of a collection by one model and length. Readers see `version`, the last complete one in it.

    While it is brought to the version `target`, `job_id` embeds what it lacks.
    """

    __tablename__ = "embedding_sets"
    __table_args__ = (Index("embedding_sets_by_name", "collection_id", "name", unique=True),)
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    collection_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    provider: Mapped[str]
    spec: Mapped[Any] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(16))
    version: Mapped[int | None] = mapped_column(BigInteger)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    target: Mapped[int | None] = mapped_column(BigInteger)
    keep_until: Mapped[float | None]
    created_at: Mapped[float]
    activated_at: Mapped[float | None]
    keep_s: Mapped[float | None]


class SetVector(Base):
    """The vector of a chunk in a set: the answer under `key`. With `error_class` there is none, and never will be."""

    __tablename__ = "set_vectors"
    __table_args__ = CLUSTERED
    set_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    chunk_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[bytes | None]
    error_class: Mapped[str | None]
    error: Mapped[str | None]


class CollectionVersion(Base):
    """One sync: what it was made from, what it changed, and what it cost. `owner` writes it while `seen_at` is fresh.

    Rows numbered from `first_…` on are its own, so one that came to nothing can be taken back.
    """

    __tablename__ = "collection_versions"
    collection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    version_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    set_id: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str | None]
    seen_at: Mapped[float | None]
    sources: Mapped[bytes]
    first_file: Mapped[int] = mapped_column(BigInteger)
    first_document: Mapped[int] = mapped_column(BigInteger)
    first_chunk: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    counts: Mapped[Any] = mapped_column(Json)
    started_at: Mapped[float]
    finished_at: Mapped[float | None]


class Output(Base):
    """A file that a job's results were written to, and what was written: only such a file is replaced unasked."""

    __tablename__ = "outputs"
    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="RESTRICT"), primary_key=True, autoincrement=False
    )
    path: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    at: Mapped[float]


class InFlight(Base):
    """A content key that a shard is paying for right now; void once that shard's lease under `fence` is over."""

    __tablename__ = "in_flight"
    __table_args__ = (Index("in_flight_by_shard", "job_id", "shard_no"), CLUSTERED)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    shard_no: Mapped[int]
    fence: Mapped[int]


class Suspect(Base):
    """An item that was handed out when a worker died in a trial, or is being tried under `fence`."""

    __tablename__ = "suspects"
    __table_args__ = CLUSTERED
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    item_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    shard_no: Mapped[int]
    deaths: Mapped[int]
    fence: Mapped[int]
