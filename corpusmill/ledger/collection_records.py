"""The plain data of collections, as `corpusmill.ledger.records` has that of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from corpusmill.ledger.records import JobState
from corpusmill.spec import JobSpec

SetState = Literal["building", "ready", "active", "kept", "dropped"]
VersionState = Literal["reading", "building", "complete", "failed"]
Row = tuple[Any, ...]
SILENT_S = 60.0


@dataclass(frozen=True, slots=True)
class SetView:
    """The vectors of a collection by one model; readers see them at `version`, None while it was never complete.

    `keep_s`: it is activated when it has the last version, and the former one kept so long; None: somebody activates
    it.
    """

    id: int
    collection_id: int
    name: str
    provider: str
    spec: JobSpec
    state: SetState
    version: int | None
    job_id: int | None
    target: int | None
    keep_until: float | None
    keep_s: float | None
    created_at: float
    activated_at: float | None


@dataclass(frozen=True, slots=True)
class VersionView:
    """One sync of a collection. `seen_s_ago`: when its `owner`, who writes it, was last heard of."""

    collection_id: int
    version_no: int
    set_id: int
    state: VersionState
    sources: bytes
    first_file: int
    first_document: int
    first_chunk: int
    job_id: int | None
    counts: Mapping[str, Any]
    started_at: float
    finished_at: float | None
    owner: str | None
    seen_s_ago: float | None
    job_state: JobState | None

    @property
    def is_written(self) -> bool:
        """Whether it needs a process: its sources are read, or it is not known yet what has to be embedded."""
        filled = "filled" in self.counts if self.job_id is None else self.job_state != "loading"
        return self.state == "reading" or (self.state == "building" and not filled)

    @property
    def is_embedding(self) -> bool:
        """Whether its job goes on by itself."""
        return self.state == "building" and self.job_state in ("queued", "running")

    @property
    def stands(self) -> bool:
        """Whether its job does not go on before somebody says so."""
        return self.state == "building" and self.job_state in ("paused", "stopped", "cancelled")

    @property
    def is_silent(self) -> bool:
        """Whether that process is gone: it is heard of with every few thousand rows."""
        return self.seen_s_ago is None or self.seen_s_ago >= SILENT_S


@dataclass(frozen=True, slots=True)
class CollectionView:
    """A named collection: its last complete version (0: none yet), its sets, and the sync under way."""

    id: int
    name: str
    shape: Mapping[str, Any]
    version: int
    next_version: int
    created_at: float
    active: SetView
    sets: Sequence[SetView]
    under_way: VersionView | None


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that the collection was read from. Without times it has to be read again to be known."""

    file_no: int
    source: str
    path: str
    place: bytes
    format: str
    digest: bytes
    size: int
    mtime_ns: int | None
    ctime_ns: int | None
    documents: int


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A document that the collection holds now."""

    document_no: int
    source: str
    id: str
    place: bytes
    digest: bytes
    first_chunk: int
    chunks: int


@dataclass(slots=True)
class Writing:
    """Rows of a version that is being read, for one transaction; as tuples, in the order of the columns named here.

    `files`: file_no, source, path, place, format, digest, size, mtime_ns, ctime_ns, documents.
    `documents`: document_no, source, id, line, metadata, place, digest, first_chunk, chunks.
    `copies`: the number of a document whose metadata is that of an older one, and of that one.
    `chunks`: chunk_no, document_no, chunk, start, end, text, tokens, problem.
    `restamped`: path, size, mtime_ns, ctime_ns and file_no of files that are what they were.
    """

    files: list[Row] = field(default_factory=list)
    documents: list[Row] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)
    chunks: list[Row] = field(default_factory=list)
    ended_files: list[int] = field(default_factory=list)
    ended_documents: list[int] = field(default_factory=list)
    restamped: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LackingChunk:
    """A chunk without a vector in some set."""

    chunk_no: int
    text: str
    tokens: int | None
    problem: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class NewVector:
    """What a set is to hold of a chunk: the answer under `key`, or, with `problem`, none."""

    chunk_no: int
    key: bytes | None
    tokens: int
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """What a set is filled for: a version of its collection. `owner`: who makes it; None: it is there already."""

    collection_id: int
    set_id: int
    version_no: int
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """How much of a collection's version a set has: chunks with a vector, chunks that failed, chunks in all."""

    chunks: int
    vectors: int
    failed: int

    @property
    def lacking(self) -> int:
        """Chunks that are not embedded yet."""
        return self.chunks - self.vectors - self.failed


@dataclass(frozen=True, slots=True)
class VectorRow:
    """A chunk of a collection with its vector (little-endian float32), as exports need it; or why it has none."""

    item_no: int
    id: str
    source: str
    chunk: int
    start: int
    end: int
    line: int | None
    metadata: Mapping[str, Any] | None
    body: bytes | None
    model: str | None
    prompt_tokens: int | None
    error_class: str | None
    error: str | None
    chunk_no: int
    cached: bool = False
    finish_reason: str | None = None
    completion_tokens: int | None = 0
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """A chunk that has a vector, without it: where it stands, and the content key under which its vector is kept."""

    chunk_no: int
    id: str
    source: str
    chunk: int
    start: int
    end: int
    metadata: Mapping[str, Any] | None
    key: bytes


@dataclass(frozen=True, slots=True)
class StoredVector:
    """The text of a chunk and its vector, as little-endian float32."""

    chunk_no: int
    text: str
    body: bytes
    model: str
    prompt_tokens: int | None
