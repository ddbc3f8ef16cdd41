"""Starting and stopping a simulator."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from corpusmill.errors import Unavailable
from corpusmill.simulator.endpoint import Endpoint
from corpusmill.simulator.http import Connection
from corpusmill.simulator.options import Options

_BACKLOG = 4096


@asynccontextmanager
async def serving(options: Options) -> AsyncIterator[str]:
    """Serve inside the block; gives the base URL, such as `http://127.0.0.1:8901/v1`.

    Raises:
        Unavailable: the port is taken.
    """
    loop = asyncio.get_running_loop()
    opened: set[Connection] = set()
    endpoint = Endpoint(options)
    try:
        server = await loop.create_server(
            lambda: Connection(endpoint, loop, opened), options.host, options.port, backlog=_BACKLOG
        )
    except OSError as error:
        endpoint.bill.close()
        raise Unavailable(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}",
            next_step="choose another --port; 0 takes a free one",
        ) from error
    try:
        yield f"http://{options.host}:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for connection in list(opened):
            connection.close()
        endpoint.bill.close()


def run(options: Options, announce: Callable[[str], None]) -> bool:
    """Serve until SIGTERM or SIGINT; `announce` is told the base URL once requests are taken.

    Returns whether it was SIGINT, a person's Ctrl-C.

    With CORPUSMILL_CHILD=1 in the environment it also ends when stdin closes, so that it never outlives its parent.
    """
    _allow_many_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve_until_told(options, announce))


async def _serve_until_told(options: Options, announce: Callable[[str], None]) -> bool:
    loop = asyncio.get_running_loop()
    interrupted: asyncio.Future[bool] = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, _settle, interrupted, False)
    loop.add_signal_handler(signal.SIGINT, _settle, interrupted, True)
    if os.environ.get("CORPUSMILL_CHILD") == "1":
        loop.add_reader(0, _settle_at_end_of_stdin, interrupted)
    async with serving(options) as base_url:
        announce(base_url)
        # What is loaded by now stays: no need to look at it in every collection.
        gc.freeze()
        return await interrupted


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def _settle_at_end_of_stdin(interrupted: asyncio.Future[bool]) -> None:
    if not os.read(0, 4096):
        interrupted.get_loop().remove_reader(0)
        _settle(interrupted, False)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


def _allow_many_connections() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
