"""Flower's application as we run it: every queue on the Broker page, jobs by their names, metrics behind the password.

Flower 2.2 lists the queues that some live worker consumes; with no worker alive, which is when one looks, the queue
that has grown is missing. And its /metrics is open whatever --basic_auth says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.options import options
from flower.urls import settings as page_settings
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from tornado import web

from corpusmill.app import make_app
from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView
from corpusmill.settings import Settings


class _AllQueues:
    """Names the queues that exist, whether or not a worker consumes them now."""

    capp: Any

    def get_active_queue_names(self) -> list[str]:
        return sorted(queue.name for queue in self.capp.conf.task_queues)


class BrokerPage(_AllQueues, BrokerView):  # type: ignore[misc]  # flower is untyped
    """The Broker page."""


class QueueLengths(_AllQueues, GetQueueLengths):  # type: ignore[misc]
    """/api/queues/length."""


class GuardedMetrics(Metrics):  # type: ignore[misc]
    """/metrics, for those who may see the rest."""

    @web.authenticated
    async def get(self) -> None:
        """Prometheus's text."""
        await super().get()


class JobNames:
    """Shows a shard's message as `j_7fk2qa shard 3`: the message itself has numbers only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names: dict[int, str] = {}

    def __call__(self, task: Any) -> Any:
        """The task as it is shown."""
        found = re.search(r"'job_id': (\d+), 'shard_no': (\d+)", task.kwargs or "")
        if found:
            task.kwargs = f"{self._name(int(found[1]))} shard {found[2]}"
        return task

    def _name(self, job_id: int) -> str:
        if job_id not in self._names:
            try:
                with Ledger.open(self._settings.database_url or "", create=False) as ledger:
                    self._names[job_id] = _shown(ledger.job(job_id))
            except CorpusmillError:
                return f"job {job_id}"
        return self._names[job_id]


def _shown(job: JobView) -> str:
    schedule = job.labels.get("schedule")
    return f"{job.public_id} (schedule {schedule})" if schedule else job.public_id


def _function(names: JobNames) -> Callable[[Any], Any]:
    # The option takes nothing else that can be called.
    return lambda task: names(task)


def application(settings: Settings, credentials: str, *, max_tasks: int) -> Any:
    """Flower over the broker of these settings, not yet listening; `credentials` are NAME:PASSWORD."""
    options.address = settings.flower.address
    options.port = settings.flower.port
    options.basic_auth = [credentials]
    options.read_only = True
    options.max_tasks = max_tasks
    options.persistent = False
    options.tasks_columns = "name,args,kwargs,state,result,received,started,runtime,worker,uuid"
    options.format_task = _function(JobNames(settings))
    # Workers send events anyway; it would ask the scheduler to report its ticks, thousands a day, as well.
    options.enable_events = False
    app = Flower(capp=make_app(settings), options=options, **page_settings)
    ours = [("/broker", BrokerPage), ("/api/queues/length", QueueLengths), ("/metrics", GuardedMetrics)]
    app.add_handlers(r".*", [web.url(*page, name="broker" if page[0] == "/broker" else None) for page in ours])
    return app
