"""`AsyncMill`: the same verbs for a program with an event loop. The work is done in threads; the loop stays free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

from corpusmill.ledger.records import JobState, UsageTotal
from corpusmill.mill.api import Mill, Source, Text
from corpusmill.mill.job import Job
from corpusmill.mill.options import CompletionOptions, CorpusOptions, RunOptions
from corpusmill.mill.results import Failure, Result
from corpusmill.mill.summary import Summary
from corpusmill.settings import Settings

T = TypeVar("T")
_AT_ONCE = 500


class AsyncMill:
    """As `Mill`, awaited."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._mill = Mill(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Mill.close`."""
        await asyncio.to_thread(self._mill.close)

    async def complete(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        prompt: str,
        model: str,
        system: str | None = None,
        texts: Iterable[Text] | None = None,
        **options: Unpack[CompletionOptions],
    ) -> AsyncJob:
        """As `Mill.complete`."""
        job = await asyncio.to_thread(
            self._mill.complete, sources, prompt=prompt, model=model, system=system, texts=texts, **options
        )
        return AsyncJob(job)

    async def embed(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        model: str,
        dimensions: int | None = None,
        texts: Iterable[Text] | None = None,
        **options: Unpack[CorpusOptions],
    ) -> AsyncJob:
        """As `Mill.embed`."""
        job = await asyncio.to_thread(
            self._mill.embed, sources, model=model, dimensions=dimensions, texts=texts, **options
        )
        return AsyncJob(job)

    async def run(self, path: Source, **options: Unpack[RunOptions]) -> AsyncJob:
        """As `Mill.run`."""
        return AsyncJob(await asyncio.to_thread(self._mill.run, path, **options))

    async def job(self, ref: str) -> AsyncJob:
        """As `Mill.job`."""
        return AsyncJob(await asyncio.to_thread(self._mill.job, ref))

    async def jobs(self, limit: int = 100) -> list[AsyncJob]:
        """As `Mill.jobs`."""
        return [AsyncJob(job) for job in await asyncio.to_thread(self._mill.jobs, limit)]

    async def usage(self, by: str = "job") -> list[UsageTotal]:
        """As `Mill.usage`."""
        return await asyncio.to_thread(self._mill.usage, by)


class AsyncJob:
    """As `Job`, awaited."""

    def __init__(self, job: Job) -> None:
        self._job, self.id = job, job.id

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}>"

    async def state(self) -> JobState:
        """As `Job.state`."""
        return await asyncio.to_thread(lambda: self._job.state)

    async def summary(self) -> Summary:
        """As `Job.summary`."""
        return await asyncio.to_thread(self._job.summary)

    async def wait(self, timeout_s: float | None = None) -> Summary:
        """As `Job.wait`; cancelled, it stops waiting and the job goes on."""
        await asyncio.to_thread(self._job.start)
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        looks = self._job.looks()
        async for look in _in_threads(looks, at_once=1):
            late = deadline is not None and asyncio.get_running_loop().time() > deadline
            if late and not look.over:
                raise TimeoutError(f"{self.id} was not over after {timeout_s} s")
        await asyncio.to_thread(self._job.wait_for_calls)
        return await self.summary()

    def results(self) -> AsyncIterator[Result]:
        """As `Job.results`."""
        return _in_threads(self._job.results(), at_once=_AT_ONCE)

    def failures(self) -> AsyncIterator[Failure]:
        """As `Job.failures`."""
        return _in_threads(self._job.failures(), at_once=_AT_ONCE)

    async def pause(self) -> None:
        """As `Job.pause`."""
        await asyncio.to_thread(self._job.pause)

    async def resume(self) -> None:
        """As `Job.resume`."""
        await asyncio.to_thread(self._job.resume)

    async def cancel(self) -> None:
        """As `Job.cancel`."""
        await asyncio.to_thread(self._job.cancel)

    async def export(
        self, out: str | Path | None = None, *, errors_out: str | Path | None = None, force: bool = False
    ) -> tuple[Path, ...]:
        """As `Job.export`."""
        return await asyncio.to_thread(self._job.export, out, errors_out=errors_out, force=force)


async def _in_threads(items: Iterator[T], *, at_once: int) -> AsyncIterator[T]:
    """Each item of a blocking iterator; one trip to a thread fetches `at_once` of them."""
    while batch := await asyncio.to_thread(lambda: list(islice(items, at_once))):
        for item in batch:
            yield item
