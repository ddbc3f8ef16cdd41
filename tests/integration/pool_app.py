"""A Celery worker on the asyncio pool (or solo) for the tests beside it: `python -m … URL POOL`.

Its tasks push what happens to them on the Redis list `events`, where the tests read it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import redis
from celery import Celery

from workers.asyncpool import AsyncTask

app = Celery("pool_app", broker=sys.argv[1], set_as_current=False)
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True, worker_soft_shutdown_timeout=0.5,
    broker_connection_retry_on_startup=True, worker_hijack_root_logger=False,
)  # fmt: skip
store = redis.Redis.from_url(sys.argv[1], decode_responses=True)


def say(event: str) -> None:
    """Tell the tests."""
    store.rpush("events", event)


@app.task(base=AsyncTask, name="nap")  # type: ignore[untyped-decorator]
async def nap(name: str, seconds: float) -> str:
    """Sleep without holding anybody up."""
    say(f"{name} started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        say(f"{name} cancelled")
        raise
    say(f"{name} done")
    return name


@app.task(base=AsyncTask, name="meet")  # type: ignore[untyped-decorator]
async def meet(n: int) -> None:
    """End once `n` tasks are here at the same time."""
    store.incr("here")
    while int(str(store.get("here") or 0)) < n:  # noqa: ASYNC110  # the others may be in another process
        await asyncio.sleep(0.01)
    say("met")


@app.task(base=AsyncTask, name="fail")  # type: ignore[untyped-decorator]
async def fail() -> None:
    """Fail as a task with a mistake does."""
    raise ValueError("on purpose")


@app.task(name="plain")  # type: ignore[untyped-decorator]
def plain(name: str) -> None:
    """A task that is not a coroutine and blocks its thread."""
    time.sleep(0.05)
    say(f"{name} done")


def main() -> Any:
    """Be a worker until told to stop."""
    worker = app.Worker(
        pool=sys.argv[2], concurrency=40, loglevel="WARNING", quiet=True, without_gossip=True, without_mingle=True
    )
    worker.start()
    return worker.exitcode


if __name__ == "__main__":
    sys.exit(main())
