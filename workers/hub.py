"""Celery's main thread says every second that it turns: it does so only while it is connected to the broker."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from corpusmill.app import App
from workers.pulse import Pulse

TURN_S = 1.0


def watched(app: App) -> Pulse:
    """A pulse that beats while workers of `app` listen to the broker."""
    pulse = Pulse()

    class Turning(bootsteps.StartStopStep):  # type: ignore[misc]
        """Begins anew with each connection, at the end of which Celery clears its timers."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            """The consumer is connected."""
            pulse.beat()
            parent.timer.call_repeatedly(TURN_S, pulse.beat)

    app.steps["consumer"].add(Turning)
    return pulse
