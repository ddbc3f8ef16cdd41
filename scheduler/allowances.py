"""What the runs of a schedule may use: its share of the limit, and its budget from one midnight to the next.

A job's cap is over its whole life, so each day it is set to what was spent before, plus what the day allows. A job that
met it is paused, and goes on when the next day begins where the schedule is.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from zoneinfo import ZoneInfo

from corpusmill.cron import Cron
from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import Amount, Budget
from corpusmill.ledger.records import JobView
from corpusmill.ledger.schedule_records import Schedule, ScheduleRun

log = logging.getLogger(__name__)


def filled(ledger: Ledger, schedule: Schedule, now_s: float) -> list[str]:
    """The schedule's command with what is left of this day, so that a new job has its caps from the start."""
    left = _left(ledger, schedule, now_s)
    words = {"{usd_left}": format(left.usd, "f"), "{tokens_left}": str(left.tokens)}
    return [words.get(word, word) for word in schedule.argv]


def keep(ledger: Ledger, schedule: Schedule, run: ScheduleRun, job: JobView, now_s: float) -> None:
    """See that the run's job keeps to the schedule's share and to the budget of this day."""
    if schedule.max_share is not None and job.max_share != schedule.max_share:
        ledger.set_max_share(job.id, schedule.max_share)
    today = _cron(schedule).date(now_s)
    if schedule.daily_usd is None and schedule.daily_tokens is None:
        return
    if run.budget_day == today:
        if _met_another_cap(ledger, job):
            ledger.resume(job.id)
        return
    raised = _set_caps(ledger, schedule, job, now_s)
    # As it is now: it may have met the former day's cap while this day's was set.
    job = ledger.job(job.id)
    if raised and job.state == "paused" and job.reason == "budget":
        ledger.resume(job.id)
        log.info("schedule goes on id=%d job=%s day=%s", schedule.id, job.public_id, today)
    # Last: should this process die before, all of it is done again.
    ledger.schedules.set_budget_day(run, today)


def _met_another_cap(ledger: Ledger, job: JobView) -> bool:
    """Whether a job was paused for a cap that it has no more, by a worker that said so after this day's was set."""
    if job.state != "paused" or job.reason != "budget":
        return False
    budget, spent = Budget(job.budget_usd, job.budget_tokens), ledger.spent(job.id)
    leaves_some = budget.covers(spent) and spent.usd != budget.usd and spent.tokens != budget.tokens
    return leaves_some and any(words not in (job.note or "") for words in budget.words())


def _set_caps(ledger: Ledger, schedule: Schedule, job: JobView, now_s: float) -> bool:
    """Let the job use what is left of this day; returns whether that is more than it had."""
    cap, raised = ledger.spent(job.id) + _left(ledger, schedule, now_s), False
    if schedule.daily_usd is not None:
        raised |= job.budget_usd is not None and cap.usd > job.budget_usd
        ledger.set_budget(job.id, cap.usd)
    if schedule.daily_tokens is not None:
        raised |= job.budget_tokens is not None and cap.tokens > job.budget_tokens
        ledger.set_budget_tokens(job.id, cap.tokens)
    return raised


def _left(ledger: Ledger, schedule: Schedule, now_s: float) -> Amount:
    """What the schedule has left today."""
    daily = Amount(schedule.daily_usd or Decimal(0), schedule.daily_tokens or 0)
    return daily.beyond(ledger.schedules.used(schedule.id, _cron(schedule).midnight(now_s)))


def _cron(schedule: Schedule) -> Cron:
    return Cron(schedule.cron, ZoneInfo(schedule.tz))
