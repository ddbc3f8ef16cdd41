"""A scheduler's figures for Prometheus, which are the fleet's as SQL and the broker tell them, and its health.

Labels are names from lists of ours: queues, states, reasons and ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric

from corpusmill.app import queue_name
from corpusmill.errors import CorpusmillError
from corpusmill.feed import queue_lengths
from corpusmill.ledger.records import Overview
from corpusmill.ledger.workers import LIVE_S
from scheduler.duty import Duty
from workers.exporter import Health
from workers.families import counts, gauge, gauges


class SchedulerGauges:
    """Asks ledger and broker at each scrape; called by the exporter's threads."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now; those of a ledger or broker that is away are left out."""
        log = self._duty.log
        yield counts("corpusmill_ticks", "Ticks done, by name.", "tick", log.done)
        yield counts("corpusmill_ticks_put_off", "Ticks that found ledger or broker away.", "tick", log.put_off)
        yield gauge("corpusmill_last_feed_age_seconds", "Since the queues were fed last.", log.pulse.age_s)
        yield from _asked("corpusmill_ledger_up", "1: the ledger answers.", self._of_the_ledger)
        yield from _asked("corpusmill_broker_up", "1: the broker answers.", self._of_the_broker)

    def health(self) -> Health:
        """A feed that was done says all: beat ticks, the broker brought it, and the ledger was there."""
        return {"feed": self._duty.log.pulse.trouble("the queues were not fed")}

    def _of_the_ledger(self) -> Iterable[Metric]:
        overview: Overview = self._duty.ledger.overview(LIVE_S)
        queues = {queue_name(queue.kind, queue.priority): queue for queue in overview.queues}
        waiting = {name: queue.waiting for name, queue in queues.items()}
        oldest = {name: queue.oldest_s for name, queue in queues.items()}
        return [
            gauges("corpusmill_shards_waiting", "Shards sent and not yet claimed.", "queue", waiting),
            gauges("corpusmill_queue_age_seconds", "How long the oldest of them has waited.", "queue", oldest),
            gauges("corpusmill_jobs", "Jobs that have not ended, by state.", "state", overview.jobs),
            gauges("corpusmill_jobs_paused", "Paused jobs, by reason.", "reason", overview.paused),
            gauges(
                "corpusmill_lanes_parked",
                "Endpoints with a key that stand.",
                "reason",
                overview.lanes_parked,
            ),
            gauge("corpusmill_workers", "Workers heard of in the last minute.", overview.workers),
            gauge("corpusmill_slots", "Shards that they can work on at once.", overview.slots),
        ]

    def _of_the_broker(self) -> Iterable[Metric]:
        return [gauges("corpusmill_queue_length", "Messages in a queue.", "queue", queue_lengths(self._duty.app))]


def _asked(name: str, what: str, ask: Callable[[], Iterable[Metric]]) -> Iterator[Metric]:
    try:
        found = list(ask())
    except CorpusmillError:
        yield gauge(name, what, 0)
        return
    yield gauge(name, what, 1)
    yield from found
