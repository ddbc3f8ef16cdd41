"""Asking the scheduler of a fleet whether it sees what a schedule needs: it is the one that reads the sources."""

from __future__ import annotations

import time
from collections.abc import Sequence

from corpusmill.errors import SourceError, Unavailable
from corpusmill.ledger.schedule_records import NewSchedule, Schedule
from corpusmill.ledger.scheduling import Schedules

ANSWER_WITHIN_S = 15.0


def ask_scheduler(known: Schedules, new: NewSchedule) -> Schedule:
    """Write the schedule, and let it fire once a scheduler has answered.

    Raises:
        SourceError: the scheduler does not see everything.
        Unavailable: no scheduler has answered.
    """
    made = known.add(new, asking=True, now_s=time.time())
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while (unmet := known.find(new.name).unseen) is None:
        if time.monotonic() > deadline:
            known.remove(made.id)
            raise Unavailable(
                f"no scheduler has answered within {ANSWER_WITHIN_S:.0f} s, and it is the one that reads the sources",
                next_step="start one, then add the schedule again: corpusmill scheduler",
            )
        time.sleep(0.1)
    if unmet:
        known.remove(made.id)
        raise not_seen(unmet, "where the scheduler runs")
    known.activate(made.id, now_s=time.time())
    return known.find(new.name)


def not_seen(unmet: Sequence[str], where: str) -> SourceError:
    """The error for what the process that will run the schedule does not see."""
    fleet = where != "on this machine"
    return SourceError(
        f"{where} this schedule could not run: {'; '.join(unmet)}",
        path="with docker-compose: the volumes of services.scheduler in docker-compose.yml" if fleet else unmet[0],
        next_step="mount the folder there, at the same path, then add the schedule again"
        if fleet
        else "correct the path, or run the command in the folder that it counts from",
    )
