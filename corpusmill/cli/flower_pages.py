"""Flower's application as we run it: every queue on the Broker page, and metrics behind the password too.

Flower 2.2 lists the queues that some live worker consumes; with no worker alive, which is when one looks, the queue
that has grown is missing. And its /metrics is open whatever --basic_auth says.
"""

from __future__ import annotations

from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.options import options
from flower.urls import settings as page_settings
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from tornado import web

from corpusmill.app import make_app
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


def application(settings: Settings, credentials: str, *, max_tasks: int) -> Any:
    """Flower over the broker of these settings, not yet listening; `credentials` are NAME:PASSWORD."""
    options.address = settings.flower.address
    options.port = settings.flower.port
    options.basic_auth = [credentials]
    options.read_only = True
    options.max_tasks = max_tasks
    options.persistent = False
    options.tasks_columns = "name,uuid,state,kwargs,result,received,started,runtime,worker"
    app = Flower(capp=make_app(settings), options=options, **page_settings)
    ours = [("/broker", BrokerPage), ("/api/queues/length", QueueLengths), ("/metrics", GuardedMetrics)]
    app.add_handlers(r".*", [web.url(*page, name="broker" if page[0] == "/broker" else None) for page in ours])
    return app
