"""Logs of worker and scheduler processes, to stderr: our own from INFO and Celery's from WARNING."""

from __future__ import annotations

import logging
import warnings

from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.worker.consumer import consumer
from kombu.transport.virtual import base as kombu

from corpusmill.logs import take_over, to_stderr
from corpusmill.spells import Spell

log = logging.getLogger(__name__)

BEAT, CONSUMER = "celery.beat", consumer.__name__
# Where Celery says, at INFO, that the broker is there.
CONNECTED = "celery.worker.consumer.connection"
# What it says every second while the broker is away, by how that begins: its consumer, and beat.
AWAY = ("consumer: C", "beat: Connection error", "Message Error")
# With these it would log all of a message that is not one of ours: anybody's words, and any number of them.
FOREIGN = {
    consumer.UNKNOWN_FORMAT: "format",
    consumer.UNKNOWN_TASK_ERROR: "task",
    consumer.INVALID_TASK_ERROR: "protocol",
    consumer.MESSAGE_DECODE_ERROR: "encoding",
}


def configure() -> None:
    """Set logging up, and keep Celery from doing it its own way."""
    to_stderr()
    take_over()
    for ours in ("corpusmill", "workers", "tasks", "scheduler"):
        logging.getLogger(ours).setLevel(logging.INFO)
    # About running as root with serializers that may run code, which the app does not accept.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Not a filter of warnings: Celery sets its own over that.
    logging.getLogger("py.warnings").addFilter(not_of_celery_6)
    logging.getLogger(kombu.__name__).addFilter(worth_a_line)
    away = BrokerAway()
    for celerys in (BEAT, CONSUMER):
        logging.getLogger(celerys).addFilter(without_its_words)
        logging.getLogger(celerys).addFilter(away)
    logging.getLogger(CONNECTED).addFilter(away)
    logging.getLogger(CONNECTED).setLevel(logging.INFO)
    # A receiver, whatever it does, is what tells Celery that logging is configured.
    signals.setup_logging.connect(_already_done, weak=False)


def worth_a_line(record: logging.LogRecord) -> bool:
    """Not what kombu says of a tick that arrives while a scheduler ends: it goes back to its queue, and is no loss."""
    return record.msg != kombu.W_NO_CONSUMERS


def not_of_celery_6(record: logging.LogRecord) -> bool:
    """Not what Celery 6 will do with running tasks when the broker goes away: the app has settled that."""
    return CPendingDeprecationWarning.__name__ not in record.getMessage()


def without_its_words(record: logging.LogRecord) -> bool:
    """Of a foreign message what is wrong with it, not what it says: it may be anybody's."""
    wrong = FOREIGN.get(record.msg)
    if wrong is not None:
        record.msg, record.args, record.exc_info = "message dropped wrong=%s", (wrong,), None
    return True


class BrokerAway:
    """A filter: that the broker is away is told when that begins, once a minute, and when it is back.

    Celery tells it every second, beat with two stacks.
    """

    def __init__(self) -> None:
        self._spell = Spell(log, "the broker is away")

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether the line is one to be seen."""
        if record.name == CONNECTED:
            self._spell.over("celery")
            return False
        said = record.getMessage()
        if not said.startswith(AWAY):
            return True
        self._spell.trouble("celery", said.partition("\n")[0])
        return False


def crash(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log a mistake of ours, with its place."""
    log.error("%s error=%s", what, type(error).__name__, exc_info=error)


def _already_done(**_: object) -> None:
    """Nothing."""
