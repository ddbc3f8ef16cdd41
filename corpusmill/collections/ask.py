"""What is asked of a collection: plain data, from the command line and from Python alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from corpusmill.mill.ask import Shape, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncAsk:
    """Bring a collection to the state of its sources.

    `model` and `dimensions` may be left out once the collection has them. `checksum`: read every file, whatever its
    size and times say. `recut`: cut everything anew where the chunking differs. `allow_mass_delete`: delete more than
    half of the documents. `refuse_second`: fail, instead of joining, when a sync of the collection is under way.
    Of `terms` a sync heeds provider, labels, priority, budget, detach and retry_failed.
    """

    name: str
    sources: Sequence[str | Path]
    model: str | None = None
    dimensions: int | None = None
    shape: Shape = field(default_factory=Shape)
    terms: Terms = field(default_factory=Terms)
    checksum: bool = False
    recut: bool = False
    allow_mass_delete: bool = False
    refuse_second: bool = False


Activate = Literal["when-complete", "manual"]
