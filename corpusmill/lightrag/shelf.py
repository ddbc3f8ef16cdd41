"""The response cache in a ledger: what programs, jobs and fleets of one database have paid for is a hit for all.

One thread reads and writes. What is asked for while it works is done together next: many calls, one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger, is_empty, migrate
from corpusmill.ledger.records import Answer, Batch
from corpusmill.lightrag.memory import Kept
from corpusmill.spec import second_key

log = logging.getLogger(__name__)

_NOBODY = "response cache"  # whoever holds no shard


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Keys to look for and answers to write, and what is found."""

    keys: Sequence[bytes] = ()
    answers: Sequence[Kept] = ()
    done: Future[Mapping[bytes, bytes]] = field(default_factory=Future)


class Shelf:
    """The answers of the ledger at a URL, which is opened at the first use; safe with threads and loops."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ledger: Ledger | None = None
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="response-cache", daemon=True)
        self._thread.start()

    async def found(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The bodies of those of `keys` that have a whole answer; none while the ledger is away.

        Raises:
            UsageError, Unavailable: the ledger cannot be opened.
        """
        return await self._done(_Task(keys=keys))

    async def keep(self, answers: Sequence[Kept]) -> None:
        """Write answers. While the ledger is away they are only logged as lost: their caller has them."""
        await self._done(_Task(answers=answers))

    def close(self) -> None:
        """Finish what is under way and close the ledger."""
        self._tasks.put(None)
        self._thread.join()

    async def _done(self, task: _Task) -> Mapping[bytes, bytes]:
        self._tasks.put(task)
        return await asyncio.wrap_future(task.done)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (first := self._tasks.get()) is not None:
            # Of one that was given up meanwhile the answers are written all the same.
            tasks = [(task, task.done.set_running_or_notify_cancel()) for task in [first, *self._waiting()]]
            try:
                found = self._all_at_once([task for task, _ in tasks])
            except Exception as error:
                _tell(error, [task for task, awaited in tasks if awaited])
                continue
            for task in [task for task, awaited in tasks if awaited]:
                task.done.set_result({key: found[key] for key in task.keys if key in found})
        if self._ledger is not None:
            self._ledger.close()

    def _waiting(self) -> Iterable[_Task]:
        for _ in range(self._tasks.qsize()):
            task = self._tasks.get()
            if task is None:
                self._tasks.put(None)
                return
            yield task

    def _all_at_once(self, tasks: Sequence[_Task]) -> Mapping[bytes, bytes]:
        ledger = self._ledger = self._ledger or _opened(self._url)
        kept = [kept for task in tasks for kept in task.answers]
        keys = {key for task in tasks for key in task.keys}
        try:
            if kept:
                ledger.commit(Batch(answers=_placed(kept, ledger)), worker_id=_NOBODY, lease_s=0)
            found = ledger.answers(keys) if keys else {}
        except CorpusmillError as error:
            log.warning("the response cache is away, %d answers were not kept: %s", len(kept), error.what)
            return {}
        return {key: answer.body for key, answer in found.items() if not answer.truncated}


def _opened(url: str) -> Ledger:
    """The ledger; an empty database gets its tables, since nobody runs a fleet here who would see to it."""
    if is_empty(url):
        migrate(url)
    return Ledger.open(url)


def _placed(kept: Sequence[Kept], ledger: Ledger) -> list[Answer]:
    """Answers in their places. One whose place is taken was bought since what is there would not do: its second."""
    taken = ledger.answers([each.key for each in kept])
    return [_answer(each, second_key(each.key) if each.key in taken else each.key) for each in kept]


def _answer(kept: Kept, key: bytes) -> Answer:
    used = kept.used
    return Answer(
        key=key,
        body=kept.body,
        model=used.model,
        tier=used.tier,
        finish_reason=kept.finish_reason,
        prompt_tokens=used.prompt,
        completion_tokens=used.completion,
        cached_tokens=used.cached,
        reasoning_tokens=used.reasoning,
    )


def _tell(error: Exception, tasks: Iterable[_Task]) -> None:
    for task in tasks:
        task.done.set_exception(error)
