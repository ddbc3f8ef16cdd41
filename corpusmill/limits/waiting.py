"""The coroutines of this process that wait for a grant: first come, first served within a job."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from corpusmill.limits.bucket import Ask
from corpusmill.limits.outlook import Queue
from corpusmill.limits.scope import Grant, Priority

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


@dataclass(slots=True, eq=False)
class Waiter:
    """One coroutine: the tokens it wants, and the future it awaits."""

    tokens: int
    future: asyncio.Future[Grant]


@dataclass(slots=True)
class Line:
    """The waiters of one job, in order. Until `held_until` the job's own part of the limit is used up."""

    weight: float
    part: float
    held_until: float = 0.0
    waiters: deque[Waiter] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked for one job in one round, and the waiters it is asked for."""

    ask: Ask
    waiters: tuple[Waiter, ...]


class Waiting:
    """All waiters, by priority and job."""

    def __init__(self) -> None:
        self._lines: dict[Priority, dict[int, Line]] = {name: {} for name in PRIORITIES}

    def add(self, priority: Priority, job_id: int, tokens: int, *, weight: float = 1.0, part: float = 1.0) -> Waiter:
        """Queue one more waiter; await its future."""
        line = self._lines[priority].setdefault(job_id, Line(weight, part))
        line.weight, line.part = weight, part
        waiter = Waiter(tokens, asyncio.get_running_loop().create_future())
        line.waiters.append(waiter)
        return waiter

    def drop(self, priority: Priority, job_id: int, waiter: Waiter) -> None:
        """Forget a waiter that was cancelled."""
        line = self._lines[priority].get(job_id)
        if line is not None:
            with suppress(ValueError):
                line.waiters.remove(waiter)
            self._close_if_empty(priority, job_id)

    def priorities(self) -> list[Priority]:
        """Those that somebody waits under, most urgent first."""
        return [name for name in PRIORITIES if self._lines[name]]

    def queue(self) -> Queue:
        """How many wait, and for how many tokens in all."""
        tokens = [each.tokens for lines in self._lines.values() for line in lines.values() for each in line.waiters]
        return Queue(len(tokens), sum(tokens))

    def turns(self, priority: Priority, at_most: int, now: float = float("inf")) -> list[Turn]:
        """The first waiters of each job not held back, evenly, about `at_most` in all (but at least one a job)."""
        lines = {job_id: line for job_id, line in self._lines[priority].items() if line.held_until <= now}
        each = max(1, at_most // max(1, len(lines)))
        return [_turn(job_id, line, each) for job_id, line in lines.items()]

    def hold(self, priority: Priority, job_id: int, until: float) -> None:
        """Ask for nothing for a job until then: its own part of the limit is used up."""
        if (line := self._lines[priority].get(job_id)) is not None:
            line.held_until = until

    def let_go(self) -> None:
        """Hold nobody any more: the limits have changed."""
        for lines in self._lines.values():
            for line in lines.values():
                line.held_until = 0.0

    def due(self, priority: Priority) -> float:
        """When the first job that waits under a priority may be asked for."""
        return min((line.held_until for line in self._lines[priority].values()), default=float("inf"))

    def served(self, priority: Priority, turn: Turn, granted: int) -> Sequence[Waiter]:
        """Take the first `granted` waiters of a turn out of the line; some may have been cancelled meanwhile."""
        served = turn.waiters[:granted]
        line = self._lines[priority].get(turn.ask.job_id)
        for waiter in served:
            if line is not None and line.waiters and line.waiters[0] is waiter:
                line.waiters.popleft()
        self._close_if_empty(priority, turn.ask.job_id)
        return served

    def _close_if_empty(self, priority: Priority, job_id: int) -> None:
        lines = self._lines[priority]
        if job_id in lines and not lines[job_id].waiters:
            del lines[job_id]

    def refuse(
        self, priority: Priority, error_for: Callable[[int], Exception | None], *, only: int | None = None
    ) -> None:
        """Let those waiters fail for whose tokens `error_for` gives an error; `only`: those of one job."""
        lines = self._lines[priority]
        for job_id, line in [(id_, line) for id_, line in lines.items() if only in (None, id_)]:
            line.waiters = deque(waiter for waiter in line.waiters if not _failed(waiter, error_for(waiter.tokens)))
            self._close_if_empty(priority, job_id)

    def cancel(self) -> None:
        """Cancel everybody."""
        for lines in self._lines.values():
            for line in lines.values():
                for waiter in line.waiters:
                    waiter.future.cancel()
            lines.clear()


def _failed(waiter: Waiter, error: Exception | None) -> bool:
    if error is not None and not waiter.future.done():
        waiter.future.set_exception(error)
    return error is not None


def _turn(job_id: int, line: Line, at_most: int) -> Turn:
    waiters = tuple(islice(line.waiters, at_most))
    return Turn(Ask(job_id, line.weight, [waiter.tokens for waiter in waiters], line.part), waiters)
