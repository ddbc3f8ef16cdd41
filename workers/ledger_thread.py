"""Ledger calls from the loop: they block, so they have a thread of their own, and run one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class LedgerThread:
    """One thread. Their order is kept: a claim asked for after a pause has been written sees that pause."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` there and wait for what it returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Wait for the call under way; those not begun are dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
