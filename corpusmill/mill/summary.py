"""How a job stands, in the one object that scripts read; its names are part of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from corpusmill.ledger.records import Counts, JobState, JobView, PauseReason

_PAUSED_EXIT = {"user": 4, "budget": 5, "billing": 5, "key": 77, "endpoint": 69, "disk": 74}
FINISHED_STATES: frozenset[JobState] = frozenset({"finished", "cancelled", "stopped", "paused", "purging", "purged"})


@dataclass(frozen=True, slots=True)
class Summary:
    """A job's numbers over its life; `requests` alone counts from when this process turned to the job.

    `usd` is None when the model is unpriced. `seconds` runs from the end of loading to the last result.
    `parked_until`: the endpoint allows nothing before (epoch seconds); left out of the object while it does.
    `schedule`: of whose runs the job is one; left out of the object for all others.
    """

    job: str
    state: JobState
    reason: PauseReason | None
    items: int
    succeeded: int
    cached: int
    truncated: int
    failed: int
    open: int
    prompt_tokens: int
    completion_tokens: int
    usd: Decimal | None
    unknown_usd: Decimal | None
    requests: int
    requests_total: int
    seconds: float | None
    out: str | None
    failed_by_class: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None
    parked_until: float | None = None
    schedule: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`; money as numbers."""
        facts = asdict(self)
        del facts["failed_by_class"], facts["note"]
        for name in ("parked_until", "schedule"):
            if facts[name] is None:
                del facts[name]
        return {name: float(value) if isinstance(value, Decimal) else value for name, value in facts.items()}

    @property
    def exit_code(self) -> int:
        """What a command that waited for this job ends with."""
        if self.state == "stopped":
            return 2
        if self.state == "cancelled":
            return 4
        if self.state == "paused" and self.reason != "first":
            return _PAUSED_EXIT.get(self.reason or "user", 4)
        return 3 if self.failed else 0


def summary_of(job: JobView, counts: Counts, *, requests_before: int, seconds: float | None) -> Summary:
    """The summary of a job as it stands; `requests_before` were sent before this process turned to it."""
    return Summary(
        job=job.public_id,
        state=job.state,
        reason=job.reason if job.state == "paused" else None,
        items=counts.items,
        succeeded=counts.succeeded,
        cached=counts.cached,
        truncated=counts.truncated,
        failed=counts.failed,
        open=counts.open,
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        usd=counts.usd,
        unknown_usd=counts.unknown_usd,
        requests=counts.requests - requests_before,
        requests_total=counts.requests,
        seconds=seconds,
        out=job.out,
        failed_by_class=counts.failed_by_class,
        note=job.note,
        parked_until=counts.parked_until if job.state in ("queued", "running") else None,
        schedule=job.labels.get("schedule"),
    )
