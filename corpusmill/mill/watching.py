"""Following a job: one look after another until it does not go on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from corpusmill.errors import Unavailable, UsageError
from corpusmill.ledger.records import Counts, JobView
from corpusmill.mill.place import Place
from corpusmill.mill.summary import FINISHED_STATES

# The first looks come quickly, so that a job of ten items is not waited for; later ones spare the database.
_FIRST_LOOK_S = 0.05
_LOOK_S = 0.5
# A database that restarts is waited for; one that is gone is told.
_DATABASE_AWAY_S = 60.0
_SERVED_EVERY_S = 2.0
_LOADER_GONE_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """A job at one moment. `served`: whether a live worker can take it; `at_s`: a monotonic clock."""

    job: JobView
    counts: Counts
    served: bool
    at_s: float

    @property
    def over(self) -> bool:
        """Whether the job does not go on by itself."""
        return self.job.state in FINISHED_STATES


def looks(place: Place, job_id: int) -> Iterator[Look]:
    """Look at the job until it is over; the last look shows its end. At most two a second.

    Raises:
        UsageError: the command that loads it is gone.
        Unavailable: the database was away for a minute, or `corpusmill down` stopped the machinery.
    """
    pause_s, workers, loader = _FIRST_LOOK_S, _Served(place), _Loader()
    while True:
        look = _patient_look(place, job_id, workers)
        yield look
        if look.over:
            return
        loader.check(look)
        if not place.keep():
            raise Unavailable(
                "the machinery that runs the job was stopped",
                where=f"{look.job.public_id} is {look.job.state}; nothing is lost",
                next_step=f"corpusmill resume {look.job.public_id}",
            )
        time.sleep(pause_s)
        pause_s = min(_LOOK_S, pause_s * 1.5)


def wait_for_calls(place: Place, job_id: int, within_s: float) -> bool:
    """Wait until no worker holds a shard of a job that is over: what was in flight is written then.

    Returns:
        False: some worker still held one after `within_s` seconds; what it has paid for is written later.
    """
    deadline = time.monotonic() + within_s
    while place.ledger.held(job_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(_FIRST_LOOK_S)
    return True


class _Loader:
    """Whether somebody still loads a job that is loading."""

    def __init__(self) -> None:
        self._items, self._grew_s = -1, 0.0

    def check(self, look: Look) -> None:
        if look.job.state != "loading":
            return
        if look.counts.items != self._items:
            self._items, self._grew_s = look.counts.items, look.at_s
        if look.at_s - self._grew_s > _LOADER_GONE_S:
            raise UsageError(
                f"{look.job.public_id} is not loaded whole, and nobody loads it any more",
                where=f"{look.counts.items:,} items are in the ledger; nothing was sent",
                next_step="run the command that made it again: it goes on where the loading stopped",
            )


class _Served:
    """Whether a live worker can serve a job, asked now and then."""

    def __init__(self, place: Place) -> None:
        self._place, self._asked_s, self._answer = place, 0.0, True

    def __call__(self, job: JobView) -> bool:
        now = time.monotonic()
        if now - self._asked_s >= _SERVED_EVERY_S:
            self._asked_s = now
            self._answer = self._place.ledger.serving(job.endpoint, job.key_fingerprint)
        return self._answer


def _patient_look(place: Place, job_id: int, served: _Served) -> Look:
    give_up_s = time.monotonic() + _DATABASE_AWAY_S
    while True:
        try:
            job = place.ledger.job(job_id)
            return Look(job, place.ledger.counts(job_id), served(job), time.monotonic())
        except Unavailable:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(_LOOK_S)
