"""A Celery pool that runs many tasks at once on one event loop.

Celery 5.7 has none. Its tracer is synchronous, so each task runs Celery's unmodified tracer in a greenlet; where
the task awaits, the greenlet hands its coroutine to the loop and sleeps (as SQLAlchemy's AsyncSession does).
Revoking, soft and hard time limits, warm, soft and cold shutdown work as in Celery's own pools. Tasks that are
not `AsyncTask` run in a thread, so that none can block the loop. Chosen by Celery's `worker_pool` setting.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import greenlet  # type: ignore[import-untyped]
from billiard.einfo import ExceptionInfo
from celery import Task
from celery.concurrency.base import BasePool
from celery.exceptions import SoftTimeLimitExceeded, Terminated

from workers import loop as loops

STOP_POLL_S = 0.02
# After a cold stop cancelled tasks may still write what was paid for.
COLD_STOP_S = 10.0

Callback = Callable[..., Any]


class _TaskGreenlet(greenlet.greenlet):  # type: ignore[misc]  # greenlet is untyped
    """A greenlet whose parent is a coroutine that awaits for it."""


def await_(awaitable: Awaitable[Any]) -> Any:
    """Wait for an awaitable from synchronous code: in place under the pool, on the process's loop elsewhere."""
    here = greenlet.getcurrent()
    if isinstance(here, _TaskGreenlet):
        return here.parent.switch(awaitable)
    return loops.current().run(_as_coroutine(awaitable))


async def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def in_greenlet(function: Callback, *args: Any, **kwargs: Any) -> Any:
    """Run a synchronous function that may use `await_`, and await for it what it hands over."""
    child = _TaskGreenlet(function, greenlet.getcurrent())
    outcome = child.switch(*args, **kwargs)
    while not child.dead:
        try:
            value = await outcome
        except BaseException as error:  # cancellation too has to reach the task
            outcome = child.throw(error)
        else:
            outcome = child.switch(value)
    return outcome


class AsyncTask(Task):  # type: ignore[misc]  # celery is untyped
    """Base of tasks written as `async def`; works in the solo pool too, for debugging."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, and wait for it when its body is a coroutine."""
        outcome = super().__call__(*args, **kwargs)
        return await_(outcome) if inspect.isawaitable(outcome) else outcome


class Execution:
    """One task on the loop: what Celery holds to terminate it, and where its time limits fire."""

    def __init__(self, pool: TaskPool, target: Callback, args: Any, kwargs: Any, callbacks: _Callbacks) -> None:
        self.pool, self.target, self.args, self.kwargs, self.callbacks = pool, target, args, kwargs, callbacks
        self.task: asyncio.Task[None] | None = None
        self.reason: BaseException | None = None
        self.hard_limit_hit = False

    def terminate(self, signum: int | None = None) -> None:
        """Cancel the task; Celery calls this from its own thread."""
        self.pool.thread.call(self._cancel, Terminated(int(signum or 15)))

    def start(self) -> None:
        """Begin; on the loop."""
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(lambda _: self.pool.executions.discard(self))

    def _cancel(self, reason: BaseException) -> None:
        if self.task is not None and not self.task.done():
            self.reason = self.reason or reason
            self.task.cancel()

    async def _run(self) -> None:
        limits = self._arm_limits()
        try:
            self.callbacks.accept(os.getpid(), time.monotonic())
            outcome = await self._outcome()
        except asyncio.CancelledError:
            self._failed(self.reason or Terminated(15))
        except BaseException as error:
            self._failed(error)
        else:
            if not self.hard_limit_hit:
                self.callbacks.success(outcome)
        finally:
            for limit in limits:
                limit.cancel()

    async def _outcome(self) -> Any:
        if self.pool.is_async(self.args):
            return await in_greenlet(self.target, *self.args, **self.kwargs)
        return await asyncio.to_thread(self.target, *self.args, **self.kwargs)

    def _failed(self, error: BaseException) -> None:
        # A hard limit has told Celery already, through its own callback.
        if not self.hard_limit_hit:
            self.callbacks.error(_info(error))

    def _arm_limits(self) -> list[asyncio.TimerHandle]:
        loop = asyncio.get_running_loop()
        soft, hard = self.callbacks.soft_s, self.callbacks.hard_s
        armed = [loop.call_later(soft, self._soft_limit)] if soft else []
        return [*armed, loop.call_later(hard, self._hard_limit)] if hard else armed

    def _soft_limit(self) -> None:
        self.callbacks.timeout(True, self.callbacks.soft_s)
        self._cancel(SoftTimeLimitExceeded(self.callbacks.soft_s))

    def _hard_limit(self) -> None:
        self.hard_limit_hit = True
        self.callbacks.timeout(False, self.callbacks.hard_s)
        self._cancel(Terminated(9))


class _Callbacks:
    """What Celery wants to hear of a task, with the parts it left out filled in."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.success: Callback = options.get("callback") or _nothing
        self.accept: Callback = options.get("accept_callback") or _nothing
        self.timeout: Callback = options.get("timeout_callback") or _nothing
        self.error: Callback = options.get("error_callback") or _nothing
        self.soft_s: float | None = options.get("soft_timeout")
        self.hard_s: float | None = options.get("timeout")


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """For a callback that nobody asked for."""


class TaskPool(BasePool):  # type: ignore[misc]  # celery is untyped
    """Runs up to `limit` tasks at once on the process's loop."""

    body_can_be_buffer = True
    signal_safe = False

    def on_start(self) -> None:
        """Take the process's loop."""
        self.thread = loops.current()
        self.executions: set[Execution] = set()

    def is_async(self, args: Any) -> bool:
        """Whether the tracer's arguments name an `AsyncTask`."""
        name = args[0] if args else None
        task = self.app.tasks.get(name) if self.app is not None and isinstance(name, str) else None
        return isinstance(task, AsyncTask)

    def on_apply(self, target: Callback, args: Any = None, kwargs: Any = None, **options: Any) -> Execution:
        """Start a task; Celery's thread goes on at once."""
        execution = Execution(self, target, args or (), kwargs or {}, _Callbacks(options))
        self.executions.add(execution)
        self.thread.call(execution.start)
        return execution

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Nothing: all tasks share one process; Celery terminates the `Execution` right after this."""

    def on_stop(self) -> None:
        """Warm: wait for every task, however long it takes; signals still arrive in between."""
        while self.executions:
            time.sleep(STOP_POLL_S)

    def on_terminate(self) -> None:
        """Cold: cancel every task and give each a moment to write what was paid for."""
        for execution in list(self.executions):
            execution.terminate()
        deadline = time.monotonic() + COLD_STOP_S
        while self.executions and time.monotonic() < deadline:
            time.sleep(STOP_POLL_S)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": len(self.executions)}


def _info(error: BaseException) -> Any:
    # ExceptionInfo reads the exception that is being handled.
    try:
        raise error
    except BaseException:
        return ExceptionInfo()
