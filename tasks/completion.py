"""Completions, and the lines of request files that are no embeddings."""

from __future__ import annotations

from celery import shared_task

from tasks.messages import shard_in
from workers import runtime
from workers.asyncpool import AsyncTask


@shared_task(base=AsyncTask, name="completion.run_shard", acks_late=True, typing=False)  # type: ignore[untyped-decorator]
async def run_shard(*_args: object, **message: object) -> dict[str, int | str]:
    """Run one shard of a completion job; returns counts for the monitor, never texts."""
    return (await runtime.current().run_shard(shard_in(message))).as_counts()
