"""Tells whoever waits for single items that something was written, by Redis pub/sub: numbers of jobs, nothing else.

A message may be lost: those who wait look into SQL now and then as well.
"""

from __future__ import annotations

import logging
import time

import redis

from corpusmill.app import WRITTEN_CHANNEL
from corpusmill.ledger.records import CommitReport

log = logging.getLogger(__name__)

TIMEOUT_S = 0.5
# After a failure the writer is not held up again for so long.
QUIET_S = 5.0


class Announcer:
    """Used on the writer's thread alone."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._quiet_until = 0.0

    def tell(self, report: CommitReport) -> None:
        """Announce the jobs of a commit; a Redis that is away is no trouble."""
        if not report.job_states or time.monotonic() < self._quiet_until:
            return
        try:
            self._redis.publish(WRITTEN_CHANNEL, " ".join(map(str, report.job_states)))
        except redis.RedisError as error:
            self._quiet_until = time.monotonic() + QUIET_S
            log.debug("not announced: %s", type(error).__name__)
