"""Does a job add up: the ledger recounted, and the journals of this host that nobody has taken over yet."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Audit

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Verification:
    """What a recount of a job found. `ok`: every number is what the rows say, and nothing paid lies unread.

    `journals_waiting` are those of dead processes of this host, which a worker or scheduler adopts within seconds;
    `journals_damaged` are kept for a person to look at, and hold up nothing.
    """

    job: str
    audit: Audit
    journals_waiting: int
    journals_damaged: int

    @property
    def ok(self) -> bool:
        """Whether all adds up; attempts of unknown outcome are no mismatch."""
        return self.audit.adds_up and self.audit.state != "purging" and not self.journals_waiting

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`; money as numbers."""
        audit = self.audit
        return {
            "job": self.job,
            "ok": self.ok,
            "state": audit.state,
            "items": audit.items,
            "succeeded": audit.succeeded,
            "failed": audit.failed,
            "open": audit.items - audit.succeeded - audit.failed,
            "paid_attempts": audit.paid_attempts,
            "unknown_attempts": audit.unknown_attempts,
            "unpriced_attempts": audit.unpriced,
            "usd": float(audit.usd),
            "unknown_usd": float(audit.unknown_usd),
            "mismatch_count": audit.mismatch_count,
            "mismatches": [_plain(each) for each in audit.mismatches],
            "journals_waiting": self.journals_waiting,
            "journals_damaged": self.journals_damaged,
        }

    def error(self) -> CorpusmillError | None:
        """What does not add up, in three lines; None when all does."""
        if self.audit.state == "purging" or (self.audit.state == "purged" and not self.audit.adds_up):
            return CorpusmillError(
                f"{self.job} is half purged",
                where="; ".join(map(str, self.audit.mismatches[:SHOWN])),
                next_step=f"corpusmill purge {self.job} takes away what is left",
            )
        if not self.audit.adds_up:
            count = self.audit.mismatch_count
            return CorpusmillError(
                f"the ledger of {self.job} does not add up: {count:,} mismatch{'es' if count > 1 else ''}",
                where="; ".join(map(str, self.audit.mismatches[:SHOWN])),
                next_step=f"keep a copy of the ledger and report this; all of it: corpusmill verify {self.job} --json",
            )
        if self.journals_waiting:
            return CorpusmillError(
                f"{self.journals_waiting} journal(s) of processes that died hold what the ledger may not have yet",
                where=f"{self.job}: what the ledger has adds up",
                next_step="start a worker or `corpusmill up`, which adopts them within seconds; then verify again",
            )
        return None


def verify(ledger: Ledger, job_id: int, journals: Path) -> Verification:
    """Recount a job; see `Verification`. The journals are looked at first: what is adopted meanwhile is counted."""
    waiting, damaged = look_at_journals(journals)
    return Verification(ledger.job(job_id).public_id, ledger.audit(job_id), waiting, damaged)


def look_at_journals(folder: Path) -> tuple[int, int]:
    """How many journals no process holds, and how many were damaged."""
    if not folder.is_dir():
        return 0, 0
    found = [path for path in folder.iterdir() if path.name[0] != "."]
    damaged = [path for path in found if path.suffix == ".damaged"]
    return sum(_is_orphan(path) for path in found if path not in damaged), len(damaged)


def _is_orphan(folder: Path) -> bool:
    """Whether nobody holds it. A shared lock, so that two who look do not see each other; gone at once."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return True
    return False


def _plain(mismatch: Any) -> Mapping[str, Any]:
    numbers = {name: getattr(mismatch, name) for name in ("said", "found")}
    plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in numbers.items()}
    return {"where": mismatch.where, "what": mismatch.what, **plain}
