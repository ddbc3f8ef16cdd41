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


def run(options: Options, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told the base URL once requests are taken.

    With CORPUSMILL_CHILD=1 in the environment it also ends when stdin closes, so that it never outlives its parent.
    """
    _allow_many_connections()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_told(options, announce))


async def _serve_until_told(options: Options, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    if os.environ.get("CORPUSMILL_CHILD") == "1":
        loop.add_reader(0, _stop_at_end_of_stdin, told)
    async with serving(options) as base_url:
        announce(base_url)
        # What is loaded by now stays: no need to look at it in every collection.
        gc.freeze()
        await told.wait()


def _stop_at_end_of_stdin(told: asyncio.Event) -> None:
    if not os.read(0, 4096):
        asyncio.get_running_loop().remove_reader(0)
        told.set()


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
