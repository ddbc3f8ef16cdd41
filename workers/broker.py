"""The broker: reached at the start or told, and kombu's Redis transport hardened.

A thing on a queue that is no message is dropped instead of ending the worker.

Kombu 5.7 lets the error out of its event loop, and Celery calls it unrecoverable. Whatever is dropped by mistake is
sent again by the reconciler. The same goes for what kombu wants to put back on the queues when it loses its connection
to them, which fails now and then and ended the worker, too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from corpusmill.redis_info import redis_info

if TYPE_CHECKING:
    from corpusmill.settings import Settings

log = logging.getLogger(__name__)

# What reading something that is not JSON, no object, or an object without a message's fields comes to.
NO_MESSAGE = (ValueError, TypeError, AttributeError, LookupError)


# Kombu's own waits grow to half a minute, in which a queue that is back has nobody who listens.
RECONNECT_S = 1


class QoS(kombu_redis.QoS):
    """What was delivered and not acknowledged yet. A wake-up that comes again is dropped, so no ack is worth an end."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; whether the connection still stands, the consumer finds out."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception as error:
            log.warning("could not acknowledge a message error=%s", type(error).__name__)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put it back when the channel closes, if the broker is still there to take it."""
        try:
            super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call]
        except Exception as error:
            log.warning("unacknowledged messages are left to the reconciler error=%s", type(error).__name__)


class Channel(kombu_redis.Channel):
    """A channel that survives what it reads, and the loss of its connection."""

    QoS = QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.handlers["BRPOP"] = self._read_one

    def _read_one(self, **options: Any) -> bool:
        try:
            return bool(self._brpop_read(**options))  # type: ignore[no-untyped-call]
        except NO_MESSAGE as error:
            # The type alone: whose message it was, and what it says, is not ours to log.
            log.warning("dropped what is no message error=%s", type(error).__name__)
            return True


class Transport(kombu_redis.Transport):
    """The transport with that channel."""

    Channel = Channel


class PatientConnection(Connection):
    """A connection that, unless told otherwise, is tried again every second for as long as it takes."""

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = RECONNECT_S,
        interval_step: float = 0,
        interval_max: float = RECONNECT_S,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        waits = (interval_start, interval_step, interval_max)
        return super()._ensure_connection(errback, max_retries, *waits, *args, **kwargs)  # type: ignore[no-untyped-call]


def harden() -> None:
    """Use these for every Redis URL in this process; before the first connection."""
    AMQP.Connection = PatientConnection
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "workers.broker:Transport"


def reach(settings: Settings) -> None:
    """See that the broker answers before Celery, which tries for ever, is started on it.

    One that goes away later is waited for: what runs goes on, and whoever starts this process is not there to be told.

    Raises:
        Unavailable: it does not answer, or refuses the password.
    """
    if settings.broker_url is not None:
        redis_info(settings.broker_url, setting="CORPUSMILL_BROKER_URL")
