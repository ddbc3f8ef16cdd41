"""The standing jobs that single requests go into, a shard at a time; and why one may not be gone into now."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import orjson

from corpusmill.errors import JobNotFound
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView, NewItem, NewJob, ShardRef
from corpusmill.spec import JobSpec

SHARD_SIZE = {"completion": 100, "embedding": 2_000}
# Who ended a job wanted its items gone; the next request is another matter, and goes into another job.
_ENDED = frozenset({"stopped", "cancelled"})
HALTED = _ENDED | {"paused"}

CardFor = Callable[[JobSpec], Mapping[str, object] | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a standing job is for: requests of one kind to one endpoint under one key."""

    spec: JobSpec
    provider: str
    key_fingerprint: str

    def __hash__(self) -> int:
        # A spec holds a dictionary of options, which has no hash.
        spec = self.spec
        return hash((spec.path, spec.model, spec.endpoint, spec.dimensions, len(spec.options), self.key_fingerprint))


class JobHalted(Exception):
    """The job does not go on for now; `reason` is that of the pause, or the state."""

    def __init__(self, job: JobView) -> None:
        self.reason = job.reason or job.state
        note = job.note or f"the job is {job.state}"
        way_on = f" (job {job.public_id} is paused; go on with: corpusmill resume {job.public_id})"
        super().__init__(note + way_on if job.state == "paused" else note)


class StandingJobs:
    """Finds and makes them; from any thread."""

    def __init__(self, ledger: Ledger, card_for: CardFor) -> None:
        self._ledger, self._card_for = ledger, card_for
        self._ids: dict[Standing, int] = {}
        self._lock = threading.Lock()

    def place(self, standing: Standing, items: Sequence[NewItem]) -> tuple[ShardRef, int]:
        """Put items into a shard of the job: the shard, and its first item's number.

        Raises:
            JobHalted: the job is paused. Going round it would ask again what a pause was made to stop.
        """
        while True:
            with self._lock:
                job_id = self._id(standing)
            placed = self._ledger.append(job_id, items)
            if placed is not None:
                return placed
            self._refuse_paused(job_id)
            with self._lock:
                self._ids.pop(standing, None)

    def _refuse_paused(self, job_id: int) -> None:
        with suppress(JobNotFound):  # it was purged
            job = self._ledger.job(job_id)
            if job.state == "paused":
                raise JobHalted(job)

    def _id(self, standing: Standing) -> int:
        """The job's number; of the next generation where the last one was stopped or cancelled."""
        if standing not in self._ids:
            for generation in count():
                view, _ = self._ledger.submit(self._new(standing, generation))
                view = self._ledger.commit_job(view.id)
                if view.state not in _ENDED:
                    self._ids[standing] = view.id
                    break
        return self._ids[standing]

    def _new(self, standing: Standing, generation: int) -> NewJob:
        spec = standing.spec
        facts = [spec.as_json(), standing.provider, standing.key_fingerprint, generation]
        return NewJob(
            key=hashlib.sha256(b"standing\n" + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).digest(),
            spec=spec,
            provider=standing.provider,
            key_fingerprint=standing.key_fingerprint,
            shard_size=SHARD_SIZE[spec.queue_kind],
            name=f"lightrag {spec.model}" + (" with reasoning" if spec.options else ""),
            priority="high",
            detached=True,
            price_card=self._card_for(spec),
        )
