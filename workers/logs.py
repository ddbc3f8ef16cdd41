"""Logs of worker and scheduler processes, to stderr: one line an event, our own from INFO and Celery's from WARNING."""

from __future__ import annotations

import logging
import sys
import warnings

from celery import signals
from celery.platforms import SecurityWarning

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure() -> None:
    """Set logging up, and keep Celery from doing it its own way."""
    logging.basicConfig(level=logging.WARNING, format=FORMAT, stream=sys.stderr)
    for ours in ("corpusmill", "workers", "tasks", "scheduler"):
        logging.getLogger(ours).setLevel(logging.INFO)
    # About running as root with serializers that may run code, which the app does not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # A receiver, whatever it does, is what tells Celery that logging is configured.
    signals.setup_logging.connect(_already_done, weak=False)


def crash(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log a mistake of ours: its type and where it happened, not its text, which might quote what was sent."""
    log.error("%s error=%s", what, type(error).__name__, exc_info=(Exception, Exception(), error.__traceback__))


def _already_done(**_: object) -> None:
    """Nothing."""
