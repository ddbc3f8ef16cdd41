"""An endpoint that nobody could reach is asked now and then whether it is back, at no cost; then its jobs go on.

Only what stands because of the way there: a spent account or a refused key is for a person to see to, and to find out
whether an account has credit again takes a call that is paid for. Asked for is the list of models, which is free.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from corpusmill.ledger.records import JobView
from workers import parent

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = logging.getLogger(__name__)

PROBE_S = 15.0


async def probe(runtime: Runtime) -> None:
    """Let jobs go on whose endpoint answers again."""
    if runtime.runner.draining:
        return
    waiting = [job for job in await runtime.thread.ask(runtime.ledger.parked) if _goes_on_unseen(job)]
    for endpoint, key in {(job.endpoint, job.key_fingerprint) for job in waiting} & runtime.keyring.holds():
        if await runtime.runner.routes.answers(runtime.keyring.endpoints((endpoint, key))):
            jobs = [job.id for job in waiting if (job.endpoint, job.key_fingerprint) == (endpoint, key)]
            revived = await runtime.thread.ask(runtime.ledger.revive, jobs)
            log.info("the endpoint answers again endpoint=%s jobs=%d", endpoint, revived)


def _goes_on_unseen(job: JobView) -> bool:
    """Whether it may spend with nobody looking: on one machine a job never detached waits for its command."""
    return job.reason == "endpoint" and (job.detached or not parent.is_there())
