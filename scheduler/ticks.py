"""The control tasks and when they tick. Each is harmless when two run at once, or when one is missed.

A tick expires when the next one is due: after a pause of the scheduler there is one of each to do, not a heap.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import current_task, shared_task

from corpusmill import feed as feeding
from corpusmill.app import CONTROL
from corpusmill.errors import CorpusmillError
from corpusmill.spells import Spell
from scheduler import duty
from workers.upkeep import adopt_all

log = logging.getLogger(__name__)
ticks_put_off = Spell(log, "ticks are put off")

FEED_S = 1.0
RECONCILE_S = 5.0
ADOPT_S = 5.0
SCHEDULES_S = 1.0
COLLECTIONS_S = 5.0
FEED = "feed"


@shared_task(name="control.feed")  # type: ignore[untyped-decorator]
def feed() -> int:
    """Put shards on the queues; returns how many."""
    here = duty.current()
    return _quietly(lambda: feeding.feed(here.ledger, here.app))


@shared_task(name="control.reconcile")  # type: ignore[untyped-decorator]
def reconcile() -> int:
    """Send lost shards again; returns how many were fed."""
    here = duty.current()
    return _quietly(lambda: feeding.reconcile(here.ledger, here.app))


@shared_task(name="control.collections")  # type: ignore[untyped-decorator]
def collections() -> int:
    """Show readers what syncs and re-embeddings have completed that nobody waits for; returns how much was done."""
    here = duty.current()
    return _quietly(lambda: here.ledger.collections.settle() + _caught_up(here))


def _caught_up(here: duty.Duty) -> int:
    """Bring up what a sync has overtaken."""
    if not here.ledger.collections.overtaken():
        here.marks.clear()
        return 0
    # Here: a scheduler that has nothing to bring up does without all that cuts and counts texts.
    from corpusmill.collections.catching_up import catch_up

    return catch_up(here.ledger, here.marks, here.present_key)


@shared_task(name="control.adopt")  # type: ignore[untyped-decorator]
def adopt() -> int:
    """Commit what dead processes of this host left in their journals; returns the number of batches."""
    here = duty.current()
    return _quietly(lambda: adopt_all(here.ledger, here.journals, worker_id=here.name, lease_s=here.lease_s))


@shared_task(name="control.schedules")  # type: ignore[untyped-decorator]
def schedules() -> int:
    """Run what is due by schedule, and follow what runs; returns how many due times were claimed."""
    here = duty.current()
    return _quietly(lambda: here.schedules.attend(time.time()))


def timetable() -> dict[str, dict[str, Any]]:
    """Beat's table."""
    times = {
        "control.feed": FEED_S,
        "control.reconcile": RECONCILE_S,
        "control.adopt": ADOPT_S,
        "control.schedules": SCHEDULES_S,
        "control.collections": COLLECTIONS_S,
    }
    return {
        name: {"task": name, "schedule": seconds, "options": {"queue": CONTROL, "expires": seconds}}
        for name, seconds in times.items()
    }


def _quietly(what: Any) -> int:
    """A ledger or broker that is away is worth a line now and then; the next tick tries again."""
    log_of_ticks, name = duty.current().log, current_task.name.removeprefix("control.")
    try:
        done = int(what())
    except CorpusmillError as error:
        log_of_ticks.put_off[name] += 1
        ticks_put_off.trouble(name, error.what)
        return 0
    ticks_put_off.over(name)
    log_of_ticks.done[name] += 1
    if name == FEED:
        log_of_ticks.pulse.beat()
    return done
