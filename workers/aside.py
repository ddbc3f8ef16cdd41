"""Large replies: read when there is room for them, and dealt with in a thread, since that would hold the loop up."""

from __future__ import annotations

import asyncio
from collections import deque
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


class Room:
    """Bytes for replies that are read or wait to be dealt with; one that is larger than all of it comes alone.

    A reply for which there is no room yet stays with its sender: nobody reads from its socket. Used on the loop only.
    """

    def __init__(self, size: int) -> None:
        self._free, self._size = size, size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def seat(self, size: int) -> Seat:
        """Room for one reply of about `size` bytes; not taken yet."""
        return Seat(self, min(size, self._size))

    async def take(self, size: int) -> None:
        """Wait for that much room; who asked first has it first."""
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, given))
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.give(size)
            else:
                self._waiting.remove((size, given))
                self.give(0)
            raise

    def give(self, size: int) -> None:
        """Give room back."""
        self._free += size
        while self._waiting and (self._waiting[0][0] <= self._free or self._waiting[0][1].done()):
            wanted, given = self._waiting[0]
            if given.done():  # cancelled; it takes itself out
                return
            self._waiting.popleft()
            self._free -= wanted
            given.set_result(None)


class Seat:
    """The room of one reply, from when its head is there until it is dealt with."""

    __slots__ = ("_room", "_size", "_taken")

    def __init__(self, room: Room, size: int) -> None:
        self._room, self._size, self._taken = room, size, False

    async def take(self) -> None:
        """Wait for it; a small reply needs none."""
        if self._size:
            await self._room.take(self._size)
            self._taken = True

    def leave(self) -> None:
        """Give it back, if it was taken."""
        if self._taken:
            self._taken = False
            self._room.give(self._size)
