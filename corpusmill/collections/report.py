"""What a sync changed and what it took, in the one object that scripts read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

COUNTS = ("added", "changed", "moved", "unchanged", "deleted", "reused", "embedded", "failed")


@dataclass(frozen=True, slots=True)
class Report:
    """A sync as it stands. Documents: added to deleted; chunks of new or changed documents: reused, embedded, failed.

    `version` is None when nothing was written. `usd` is None when the model is unpriced; of a dry run it is what it
    would cost. `taken_as_unchanged`: files that were not read, since size and times are as before.
    """

    collection: str
    set: str
    version: int | None
    state: str
    counts: Mapping[str, int]
    usd: Decimal | None
    requests: int
    job: str | None
    taken_as_unchanged: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`; money as a number."""
        return {
            "collection": self.collection,
            "set": self.set,
            "version": self.version,
            "state": self.state,
            **{name: self.counts.get(name, 0) for name in COUNTS},
            "usd": None if self.usd is None else float(self.usd),
            "requests": self.requests,
            "job": self.job,
            "taken_as_unchanged": self.taken_as_unchanged,
        }

    @property
    def exit_code(self) -> int:
        """What a command that waited for it ends with."""
        return 3 if self.counts.get("failed") else 0


def usd_of(counts: Mapping[str, Any]) -> Decimal | None:
    """The money in a version's counts, which are JSON."""
    told = counts.get("usd")
    return None if told is None else Decimal(told)
