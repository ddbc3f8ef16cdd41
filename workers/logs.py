"""Logs of worker and scheduler processes, to stderr: our own from INFO and Celery's from WARNING."""

from __future__ import annotations

import logging
import warnings

from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from kombu.transport.virtual import base as kombu

from corpusmill.logs import to_stderr


def configure() -> None:
    """Set logging up, and keep Celery from doing it its own way."""
    to_stderr()
    for ours in ("corpusmill", "workers", "tasks", "scheduler"):
        logging.getLogger(ours).setLevel(logging.INFO)
    # About running as root with serializers that may run code, which the app does not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Not a filter of warnings: Celery sets its own over that.
    logging.getLogger("py.warnings").addFilter(not_of_celery_6)
    logging.getLogger(kombu.__name__).addFilter(worth_a_line)
    logging.getLogger("celery.beat").addFilter(in_one_line)
    # A receiver, whatever it does, is what tells Celery that logging is configured.
    signals.setup_logging.connect(_already_done, weak=False)


def worth_a_line(record: logging.LogRecord) -> bool:
    """Not what kombu says of a tick that arrives while a scheduler ends: it goes back to its queue, and is no loss."""
    return record.msg != kombu.W_NO_CONSUMERS


def not_of_celery_6(record: logging.LogRecord) -> bool:
    """Not what Celery 6 will do with running tasks when the broker goes away: the app has settled that."""
    return CPendingDeprecationWarning.__name__ not in record.getMessage()


def in_one_line(record: logging.LogRecord) -> bool:
    """Beat tells with two stacks, once a second, that the broker is away: the reason is enough."""
    record.msg, record.args, record.exc_info = record.getMessage().partition("\n")[0], None, None
    return True


def crash(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log a mistake of ours, with its place."""
    log.error("%s error=%s", what, type(error).__name__, exc_info=error)


def _already_done(**_: object) -> None:
    """Nothing."""
