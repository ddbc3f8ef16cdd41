"""The supervisor's end of the control socket: clients come, hand over providers, look at jobs, and go.

What is said is in `wire`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from corpusmill import __version__
from corpusmill.embedded import wire
from corpusmill.errors import CorpusmillError

if TYPE_CHECKING:
    from corpusmill.embedded.supervisor import Supervisor

log = logging.getLogger(__name__)


class Client:
    """One connection: what it asks for, and the jobs that it looks at."""

    def __init__(self, control: Control, writer: asyncio.StreamWriter) -> None:
        self._control, self._supervisor, self._writer = control, control.supervisor, writer
        self.watched: list[int] = []

    async def obey(self, message: dict[str, Any]) -> None:
        """Do what one message asks; what is not known is a newer client's and is left."""
        for name, value in message.items():
            if asked := _ASKED.get(name):
                await asked(self, value)

    async def hello(self, version: str) -> None:
        """Wait until all is ready, then say where it is."""
        self._say(await self._control.welcome(version))

    async def providers(self, providers: list[dict[str, Any]]) -> None:
        """Take over providers, keys included."""
        for provider in providers:
            self._supervisor.staff.hand_over(provider)

    async def attach(self, job_id: int) -> None:
        """Look at a job from now on."""
        self.watched.append(job_id)
        self._supervisor.viewers.attach(job_id)

    async def detach(self, job_id: int) -> None:
        """Look away on purpose."""
        if job_id in self.watched:
            self.watched.remove(job_id)
            self._supervisor.viewers.leave(job_id)

    async def up(self, wish: dict[str, Any]) -> None:
        """Make the machinery stay until `down`."""
        self._supervisor.stays = True
        self._supervisor.staff.let_schedules_fire()
        if wish.get("workers"):
            await self._supervisor.staff.set_workers(wish["workers"])
        await self.state(True)

    async def state(self, _: bool) -> None:
        """Say how the children are."""
        self._say({"state": {**self._supervisor.staff.state(), "stays": self._supervisor.stays}})

    async def down(self, _: bool) -> None:
        """Stop everything."""
        self._supervisor.stop("corpusmill down")

    def _say(self, message: dict[str, Any]) -> None:
        self._writer.write(wire.line(message))


_ASKED: dict[str, Callable[[Client, Any], Awaitable[None]]] = {
    "hello": Client.hello,
    "providers": Client.providers,
    "attach": Client.attach,
    "detach": Client.detach,
    "up": Client.up,
    "state": Client.state,
    "down": Client.down,
}


class Control:
    """Listens; each connection is one client for as long as it is open."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def clients(self) -> int:
        """Open connections."""
        return len(self._writers)

    async def open(self, path: Path) -> None:
        """Listen, for the owner alone."""
        # The folder is 0700 and so is the process's umask: there is no moment at which others could connect.
        self._server = await asyncio.start_unix_server(self._serve, path, limit=wire.LONGEST_LINE)
        os.chmod(path, 0o600)  # noqa: PTH101 - of a socket, where Path.chmod says the same

    def set_ready(self) -> None:
        """Answer those who wait."""
        self._ready.set_result(None)

    def fail(self, error: CorpusmillError) -> None:
        """Tell those who wait, and those who come until the end, why it does not start."""
        if not self._ready.done():
            self._ready.set_exception(error)
            # It is retrieved by each client; there may be none.
            self._ready.exception()
        self.tell_everybody({"error": error.lines(), "exit_code": error.exit_code})

    def tell_everybody(self, message: dict[str, Any]) -> None:
        """Send to every open connection."""
        for writer in self._writers.values():
            writer.write(wire.line(message))

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._server:
            self._server.close()
        serving = [task for task in self._writers if task]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._writers[task] = writer
        client = Client(self, writer)
        try:
            while text := await reader.readline():
                await client.obey(orjson.loads(text))
        except asyncio.CancelledError:
            # By `close`, at the end: asyncio's own callback would report it as an error.
            return
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            log.warning("a client was cut off: %s", type(error).__name__)
        finally:
            self.supervisor.viewers.lose(client.watched)
            del self._writers[task]
            writer.close()

    async def welcome(self, version: str) -> dict[str, Any]:
        """The answer to a client's greeting: where everything is, or why there is nothing."""
        if version != __version__:
            return {
                "error": [
                    f"the machinery that runs is corpusmill {__version__}, this command is {version}",
                    f"process {os.getpid()}",
                    "stop it first: corpusmill down",
                ],
                "exit_code": 2,
            }
        try:
            await asyncio.shield(self._ready)
        except CorpusmillError as error:
            return {"error": error.lines(), "exit_code": error.exit_code}
        return {"ready": self.supervisor.ready()}
