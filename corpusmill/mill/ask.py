"""What a producer asks for, before anything is looked at: plain data, from the command line and from Python alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from corpusmill.ledger.records import Flex, Priority
from corpusmill.spec import Kind

TooLong = Literal["split", "truncate", "fail"]
OnBadText = Literal["replace", "skip", "fail"]

_OVERLAP = 80
# `--budget none`: take the cap away. No cap said at all leaves the one that the job has.
NO_CAP = Decimal("Infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How sources become items; enters the job key.

    `chunk_tokens` and `chunk_overlap` are tokens of the model's own encoding, the overlap 80 unless given, or a quarter
    of smaller chunks; without `chunk` a file or record is one item. An `id_field` that is given has to be in every
    record; by default it is `id`, where there is one. `skip_invalid` leaves broken lines of line files out and counts
    them.
    """

    chunk_tokens: int = 800
    chunk_overlap: int | None = None
    chunk: bool = True
    too_long: TooLong = "split"
    text_field: str = "text"
    id_field: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    on_bad_text: OnBadText = "replace"
    skip_invalid: bool = False

    @property
    def overlap(self) -> int:
        """The overlap in effect."""
        return min(_OVERLAP, self.chunk_tokens // 4) if self.chunk_overlap is None else self.chunk_overlap

    @property
    def id_name(self) -> str:
        """The field of a record's id in effect."""
        return self.id_field or "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a job is run; only `cache` and the provider's address enter the job key.

    `first`: run that many items, then pause. `budget_usd`: None leaves an existing job's cap, `NO_CAP` takes it away.
    `flex`: what follows when the flex tier has no capacity; None leaves an existing job's answer, a new one waits.
    `max_share`: the part of the limit that it uses at most, over 0 to 1; None leaves an existing job's.
    `budget_tokens`: at most these are used; None leaves an existing job's cap.
    `force`: replace an output that somebody else wrote. `detach`: the job goes on when its producer leaves.
    """

    out: Path | None = None
    errors_out: Path | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    provider: str | None = None
    priority: Priority = "normal"
    budget_usd: Decimal | None = None
    first: int | None = None
    flex: Flex | None = None
    max_share: float | None = None
    budget_tokens: int | None = None
    cache: bool | None = None
    retry_failed: bool = False
    force: bool = False
    detach: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for work.

    `options` are a completion's, by their names in the API, without those that are unset. `texts` stands in for
    sources: one item each, as plain strings or as records with a text, an id and metadata.
    """

    kind: Kind
    sources: Sequence[str | Path] = ()
    texts: Sequence[str | Mapping[str, Any]] | None = None
    model: str = ""
    prompt: str | None = None
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dimensions: int | None = None
    shape: Shape = Shape()
    terms: Terms = Terms()
