"""The broker: reached at the start or told, and kombu's Redis transport hardened.

A thing on a queue that is no message is dropped instead of ending the worker.

Kombu 5.7 lets the error out of its event loop, and Celery calls it unrecoverable. Whatever is dropped by mistake is
sent again by the reconciler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from corpusmill.redis_info import redis_info

if TYPE_CHECKING:
    from corpusmill.settings import Settings

log = logging.getLogger(__name__)

# What reading something that is not JSON, no object, or an object without a message's fields comes to.
NO_MESSAGE = (ValueError, TypeError, AttributeError, LookupError)


class Channel(kombu_redis.Channel):
    """A channel that survives what it reads."""

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


def harden() -> None:
    """Use it for every Redis URL in this process; before the first connection."""
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
