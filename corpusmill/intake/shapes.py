"""The plain data of intake: how to read, how to chunk, and what comes out.

Frozen and without behaviour beyond checking their own values. A `Piece` becomes one item of a job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from corpusmill.errors import UsageError

Format = Literal["text", "jsonl", "csv", "tsv", "parquet"]
Compression = Literal["gz", "zst"]
BadTextPolicy = Literal["replace", "skip", "fail"]
TooLongPolicy = Literal["split", "truncate", "fail"]

EMBEDDING_LIMIT_TOKENS = 8192
"""What OpenAI's embedding models take as one input."""

SMALLEST_CHUNK = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """How sources are read.

    `include` and `exclude` are patterns as in `.gitignore`, for files in folders; a file that `include` names is
    read as text whatever its suffix. `on_bad_text` says what becomes of invalid UTF-8, NUL and lone surrogates:
    U+FFFD in their place, the file or record left out, or an error. `skip_invalid` leaves broken records out.
    An `id_field` that is given has to be in every record; by default it is `id`, where there is one.
    """

    text_field: str = "text"
    id_field: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    on_bad_text: BadTextPolicy = "replace"
    skip_invalid: bool = False

    @property
    def id_name(self) -> str:
        """The field in effect."""
        return self.id_field or "id"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How texts are cut, in tokens of the model.

    `whole`: a text stays in one piece. `limit_tokens` is what the model takes at once (None: unknown, so nothing is
    too long); `too_long` says what becomes of a piece above it.
    """

    tokens: int = 800
    overlap: int = 80
    whole: bool = False
    too_long: TooLongPolicy = "split"
    limit_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tokens < SMALLEST_CHUNK:
            raise UsageError(
                f"chunks of {self.tokens} tokens are too small; one character may need 4",
                next_step=f"set --chunk-tokens to {SMALLEST_CHUNK} or more",
            )
        if not 0 <= self.overlap <= self.tokens // 2:
            raise UsageError(
                f"an overlap of {self.overlap} tokens does not fit chunks of {self.tokens}",
                next_step=f"set --chunk-overlap between 0 and {self.tokens // 2}",
            )


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read. `source` is its name in results; `digest` the sha256 of its bytes as they lie on disk.

    `place` orders it among all files of the sources: the number of the source that holds it, and its path below that.
    """

    path: Path
    source: str
    format: Format
    compression: Compression | None
    size: int
    mtime_ns: int
    digest: bytes
    ctime_ns: int = 0
    place: bytes = b""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that a folder holds and that are not read, for one reason. `names` are the first few."""

    reason: str
    count: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {self.count - len(self.names):,} more" if self.count > len(self.names) else ""
        files = "file" if self.count == 1 else "files"
        return f"{self.count:,} {files} left out ({self.reason}): {', '.join(self.names)}{more}"


@dataclass(frozen=True)
class Scan:
    """What the sources hold: the files in order, what was left out, and notes for the person.

    `notes` has one line for each reason in `left_out` and for each file whose text had to be mended.
    """

    files: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes on disk, all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a line file. `line` is where it starts; `text` is cleaned, None where the file has a null."""

    line: int
    id: str | None
    text: str | None
    metadata: Mapping[str, Any] | None = None
    bad_text: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record: what is wrong with it and what to do. `no_text`: it only lacks the text field."""

    line: int
    what: str
    next_step: str = ""
    no_text: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of text for one item: `text` is characters `start` to `end` of its document, `tokens` its exact count.

    With `problem`, as `(class, message)`, it is an item that has failed before any call, and `text` is empty.
    """

    source: str
    id: str
    chunk: int
    start: int
    end: int
    text: str
    tokens: int
    line: int | None = None
    metadata: Mapping[str, Any] | None = None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece stands: of the record in line `line` of `source`, or of a text file, the one numbered `chunk`."""

    source: str
    line: int | None
    chunk: int


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line of a Batch request file. `body` is the JSON object as its bytes stood; `tokens` count its inputs.

    `key` is what was made of the parsed body, where a function was given for it.
    """

    custom_id: str
    url: str
    model: str
    body: bytes
    line: int
    tokens: int
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What one pass over the line files found.

    `skipped` maps the place of a file in `Scan.files` to its lines that are left out, `repeats` to those of them
    that repeat an id; `notes` are lines to show; `models` those that a request file asks for.
    """

    records: int = 0
    repeats: Mapping[int, frozenset[int]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    skipped: int = 0
    models: frozenset[str] = frozenset()
