"""A scheduler process: beat's ticks, and a solo worker of its own for the `control` queue.

Shard workers never consume `control`: a tick would wait minutes behind their long shards.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from celery import signals
from celery.beat import EmbeddedService

from corpusmill.app import CONTROL, App, make_app
from corpusmill.errors import CorpusmillError, SettingsError
from corpusmill.ledger import Ledger
from corpusmill.settings import Settings
from scheduler import duty, ticks
from scheduler.schedules import Schedules
from scheduler.surroundings import Surroundings
from workers import broker, logs, parent, ready


def main() -> int:
    """Be a scheduler until told to stop; returns the exit code."""
    logs.configure()
    broker.harden()
    try:
        return _run(Settings.load())
    except CorpusmillError as error:
        print(error.told(), file=sys.stderr)
        return error.exit_code


def _run(settings: Settings) -> int:
    app = make_app(settings)
    if settings.database_url is None:
        raise SettingsError("a scheduler needs a database", next_step="set CORPUSMILL_DATABASE_URL")
    broker.reach(settings)
    app.conf.beat_schedule = ticks.timetable()
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(settings.database_url))
        around = Surroundings(settings)
        schedules = Schedules(ledger, duty.name(), around)
        stack.callback(schedules.close)
        duty.take_up(duty.Duty(ledger, app, settings.home / "journal", settings.lease_s, schedules, settings))
        stack.enter_context(_exported(settings))
        beat = _beat(app)
        stack.callback(beat.join, 5)
        stack.callback(beat.service.stop)
        parent.listen(settings.grace_s, around.take)
        _tell_when_ready(settings)
        return _serve(app)


def _exported(settings: Settings) -> AbstractContextManager[None]:
    """Figures and health for monitors, if a port is set for them."""
    if not settings.metrics_port:
        return nullcontext()
    # Here: a process that nobody asks need not load a server.
    from scheduler.gauges import SchedulerGauges
    from workers import exporter

    gauges = SchedulerGauges(duty.current())
    return exporter.serving(settings.metrics_port, gauges, gauges.health)


def _tell_when_ready(settings: Settings) -> None:
    def tell(**_: Any) -> None:
        ready.tell(settings, scheduler=duty.current().name, feeds_every_s=ticks.FEED_S)

    signals.worker_ready.connect(tell, weak=False)


def _beat(app: App) -> Any:
    """Beat in a thread, without the file in which it would keep when it last ticked: a tick missed is no loss."""
    beat = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")
    beat.start()
    return beat


def _serve(app: App) -> int:
    worker = app.Worker(
        hostname=f"scheduler-{os.getpid()}@{platform.node()}",
        pool="solo",
        concurrency=1,
        queues=[CONTROL],
        quiet=True,
        # Ticks once a second would push the shards out of what a monitor remembers.
        task_events=False,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
