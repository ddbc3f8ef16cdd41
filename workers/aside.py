"""Work that would hold the loop up: done in a thread of its own, one piece after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Aside:
    """One thread, so that the loop has one rival for the interpreter at most, and the order is kept."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="aside")

    async def do(self, function: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        """Run `function` there, to its end whatever happens: it may save what was paid for.

        A caller who is cancelled meanwhile has the outcome first, and is cancelled where it waits next.
        """
        done = asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        cancelled = False
        while not done.done():
            try:
                await asyncio.wait({done})
            except asyncio.CancelledError:
                cancelled = True
        caller = asyncio.current_task()
        if cancelled and caller is not None:
            caller.cancel()
        return done.result()

    def close(self) -> None:
        """Wait for what is under way and end."""
        self._executor.shutdown(wait=True)
