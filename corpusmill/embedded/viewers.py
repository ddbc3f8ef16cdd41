"""Who looks at which job, and which jobs are to be paused because nobody does.

A viewer is a connection: it ends with its process, so nothing has to be believed about the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from corpusmill.ledger.records import JobView

# Why a job was paused, for the person who finds it so.
LEFT = "paused by Ctrl-C, or because the program that watched it closed it"
LOST = "paused because nobody watched it any more"


class Viewers:
    """Counts viewers a job. Times are the caller's, in seconds of one clock that does not jump."""

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._watching: Counter[int] = Counter()
        self._alone_since: dict[int, float] = {}
        self._left: set[int] = set()

    def attach(self, job_id: int) -> None:
        """One more looks at the job."""
        self._watching[job_id] += 1
        self._alone_since.pop(job_id, None)
        self._left.discard(job_id)

    def leave(self, job_id: int) -> None:
        """One looks away on purpose: there is nothing to wait for once the last has."""
        self._drop(job_id)
        if not self._watching[job_id]:
            self._left.add(job_id)

    def lose(self, job_ids: Iterable[int]) -> None:
        """A connection broke: its viewer was killed, or is about to come back."""
        for job_id in job_ids:
            self._drop(job_id)

    def left(self, job_id: int) -> bool:
        """Whether the last to look at the job looked away on purpose, and nobody has looked since."""
        return job_id in self._left

    def _drop(self, job_id: int) -> None:
        self._watching[job_id] -= 1
        if self._watching[job_id] <= 0:
            del self._watching[job_id]

    def unseen(self, active: Collection[JobView], now_s: float) -> list[JobView]:
        """The active jobs to pause: never detached, and alone for the grace time or left on purpose."""
        alone = {job.id: job for job in active if not job.detached and not self._watching[job.id]}
        self._alone_since = {job_id: self._alone_since.get(job_id, now_s) for job_id in alone}
        self._left &= alone.keys()
        return [
            job
            for job_id, job in alone.items()
            if job_id in self._left or now_s - self._alone_since[job_id] >= self._grace_s
        ]
