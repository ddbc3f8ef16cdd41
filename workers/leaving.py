"""Reasons for which a worker drains and leaves by itself: it has grown too large, or the schema has outgrown it.

What is in flight lands, shards are given back, and whoever supervises starts the next one: the supervisor of this
machine, docker-compose, systemd.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = logging.getLogger(__name__)

# To be started anew: under any restart policy, since it is no success.
EX_TEMPFAIL = 75
# The same code again would do no better.
EX_USAGE = 2


def leave(runtime: Runtime, exit_code: int) -> None:
    """Drain, and end with this code; as on SIGTERM, which Celery has to see to."""
    if not runtime.exit_code:
        runtime.exit_code = exit_code
        os.kill(os.getpid(), signal.SIGTERM)


async def look_at_memory(runtime: Runtime) -> None:
    """Leave when this process has grown too large; one that has sent nothing is as small as the next would be."""
    most_mb = runtime.settings.max_rss_mb
    if not most_mb or runtime.exit_code or not runtime.dispatch.metrics.sent:
        return
    rss_mb = psutil.Process().memory_info().rss / 1e6
    if rss_mb > most_mb:
        log.warning("too much memory: draining, to be started anew rss_mb=%.0f max_rss_mb=%d", rss_mb, most_mb)
        leave(runtime, EX_TEMPFAIL)


async def look_at_schema(runtime: Runtime) -> None:
    """Leave when the schema is more than one version newer: what we write might not be what is wanted there."""
    if runtime.exit_code:
        return
    found = await runtime.thread.ask(runtime.ledger.outgrown)
    if found is not None:
        log.error("the schema is too new for this worker, which claims nothing more: install the new version %s", found)
        leave(runtime, EX_USAGE)
