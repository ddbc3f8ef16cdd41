"""A Celery worker with eight processes and a task a chunk: sends the tasks, waits for their results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
from celery import group

from benchmarks.machine import Meter, with_children
from benchmarks.peers.work import Took, Work, given, tell

PROCESSES, LONGEST_S = 8, 600.0


@contextmanager
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """Celery's own worker."""
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_tasks", "worker"]
    child = subprocess.Popen([*command, "--concurrency", str(PROCESSES), "--loglevel", "ERROR"])
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def answer(work: Work, texts: Sequence[str]) -> int:
    """A task for each text; chunks answered."""
    from benchmarks.peers import celery_tasks

    task = celery_tasks.chat if work.kind == "chat" else celery_tasks.embed
    result = group(task.s(work.model, text) for text in texts).apply_async()
    return sum(1 for each in result.get(timeout=LONGEST_S, propagate=False) if isinstance(each, str | list))


def main() -> None:
    """Measure the worker and this process, which is the producer, together."""
    work, texts = given()
    os.environ.update(BENCH_BROKER=work.broker, BENCH_BASE_URL=work.base_url)
    with worker() as child:
        answer(work, texts[: work.warm_up])
        began = time.perf_counter()
        with Meter({"client": [psutil.Process(), *with_children(child.pid)]}) as meter:
            answered = answer(work, texts[work.warm_up :])
        tell(work, Took(answered, meter.cpu_s["client"], time.perf_counter() - began, meter.peak("client")))


if __name__ == "__main__":
    main()
