"""Does a scheduler of the fleet answer: asked by Celery's remote control, as no table lists them."""

from __future__ import annotations

from corpusmill.app import make_app
from corpusmill.settings import Settings

# A scheduler answers between two ticks, each some milliseconds long.
WITHIN_S = 2.0
# How they call themselves: see `scheduler.process`.
NAMED = "scheduler-*"


def living_scheduler(settings: Settings) -> str | None:
    """The name of the first scheduler that answers, within 2 s; None when none does. The broker has to be there."""
    app = make_app(settings)
    try:
        replies = app.control.broadcast("ping", reply=True, timeout=WITHIN_S, limit=1, pattern=NAMED, matcher="glob")
        return next((str(name) for reply in replies or () for name in reply), None)
    finally:
        app.close()
