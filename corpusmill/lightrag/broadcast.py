"""One stream, and everyone who asked for it: each hears all of it, from the beginning and at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from corpusmill.lightrag.answering import Piece, Thinking
from corpusmill.lightrag.events import Gathered, events
from corpusmill.lightrag.failures import InvalidResponseError
from corpusmill.lightrag.wires import Letter, Wire

WhenOver = Callable[[Gathered], Awaitable[None]]
_ends: set[asyncio.Task[None]] = set()


class Broadcast:
    """A stream under way. It ends with its last event, or when its last listener leaves."""

    def __init__(self) -> None:
        self.gathered = Gathered()
        self._pieces: list[Piece] = []
        self._listeners = 0
        self._ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._when_broken: WhenOver | None = None

    @classmethod
    async def open(
        cls, wire: Wire, letter: Letter, when_whole: WhenOver, when_broken: WhenOver | None = None
    ) -> Broadcast:
        """Send the request; returns once the endpoint has begun to answer, raises what the wire does.

        `when_whole` is awaited with all that came, before the listeners learn of the end; `when_broken` is called with
        what had come if there is no end, because the stream broke or nobody listened any more.
        """
        broadcast = cls()
        broadcast._when_broken = when_broken
        opened = asyncio.get_running_loop().create_future()
        broadcast._task = asyncio.create_task(broadcast._receive(wire, letter, opened, when_whole))
        try:
            await asyncio.shield(opened)
        except asyncio.CancelledError:
            broadcast._task.cancel()
            raise
        return broadcast

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def listen(self) -> AsyncIterator[Piece]:
        """All pieces from the first on; ends, or raises, as the stream does."""
        self._listeners += 1
        return self._from_the_start()

    async def whole(self) -> Mapping[str, Any]:
        """The reply, once it is complete."""
        async for _piece in self.listen():
            pass
        return self.gathered.reply()

    async def _from_the_start(self) -> AsyncIterator[Piece]:
        heard = 0
        try:
            while True:
                while heard < len(self._pieces):
                    heard += 1
                    yield self._pieces[heard - 1]
                if self._ended:
                    break
                await self._news.wait()
        finally:
            self._listeners -= 1
            if not self._listeners and not self._ended and self._task is not None:
                self._left()
                self._task.cancel()
        if self._error is not None:
            raise self._error

    async def _receive(self, wire: Wire, letter: Letter, opened: asyncio.Future[None], when_whole: WhenOver) -> None:
        try:
            async with wire.stream(letter) as parts, aclosing(events(parts.body)) as found:  # type: ignore[type-var]
                self.gathered.headers = parts.headers
                opened.set_result(None)
                async for event in found:
                    self._tell(self.gathered.add(event))
            await when_whole(self.gathered)
        except asyncio.CancelledError:
            self._left()
            self._broke()
            raise
        except Exception as error:
            if opened.done():
                self._error = error
                self._broke()
            else:
                opened.set_exception(error)
        finally:
            self._ended = True
            self._news.set()

    def _left(self) -> None:
        """Nobody listens any more: whoever comes now must not take what there is for the whole."""
        self._ended, self._error = True, InvalidResponseError("the stream was left before its end")

    def _broke(self) -> None:
        if self._when_broken is not None:
            # Not here: this task may be one that was cancelled.
            task = asyncio.get_running_loop().create_task(_awaited(self._when_broken(self.gathered)))
            _ends.add(task)
            task.add_done_callback(_ends.discard)

    def _tell(self, pieces: Iterable[Piece]) -> None:
        self._pieces += [piece for piece in pieces if any(piece)]
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _awaited(what: Awaitable[None]) -> None:
    await what


async def texts(pieces: AsyncIterator[Piece], *, enable_cot: bool) -> AsyncIterator[str]:
    """The pieces of a stream as the text that its caller sees."""
    thinking = Thinking(enable_cot=enable_cot)
    try:
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                for text in thinking.texts(piece):
                    yield text
    except Exception:
        for text in thinking.end():
            yield text
        raise
    for text in thinking.end():
        yield text


async def replayed(pieces: Iterable[Piece]) -> AsyncIterator[Piece]:
    """Pieces that are there already, as a stream."""
    for piece in pieces:
        yield piece
