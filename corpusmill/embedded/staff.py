"""The supervisor's children: Valkey first, then scheduler and workers, and stopped the other way round."""

from __future__ import annotations

import asyncio
import os
from typing import IO, Any

from corpusmill import _entry
from corpusmill.embedded import valkey, wire
from corpusmill.embedded.children import Child, Program
from corpusmill.embedded.place import Place, Sockets
from corpusmill.errors import Unavailable
from corpusmill.settings import Settings

VALKEY_WITHIN_S = 60.0
# Over the worker's own grace: it closes its journal and tells the ledger after that.
AFTER_GRACE_S = 10.0


class Staff:
    """Starts, counts and stops the children."""

    def __init__(self, settings: Settings, place: Place, sockets: Sockets, log_file: IO[bytes]) -> None:
        self._place, self._sockets, self._log_file = place, sockets, log_file
        self.settings = settings.model_copy(
            update={
                "broker_url": valkey.broker_url(sockets),
                "database_url": place.database_url,
                "redis_url": valkey.redis_url(sockets),
            }
        )
        self._env = _entry.child_env(self.settings)
        self._valkey: Child | None = None
        self._scheduler: Child | None = None
        self._workers: list[Child] = []
        self._providers: dict[bytes, None] = {}

    async def start(self) -> None:
        """Start Valkey, wait until it answers, then start the rest with one worker."""
        # Guarded by its pipe: see guard.py. Closing that pipe is also how it is asked to stop.
        queue = Program("valkey", valkey.command(self._place, self._sockets), os.environ, self._place.home, None)
        self._valkey = self._started(queue)
        await self._until_valkey_answers()
        self._scheduler = self._started(self._program("scheduler", stop_within_s=AFTER_GRACE_S))
        await self.set_workers(1)

    async def set_workers(self, count: int) -> None:
        """Start workers, or stop some, until there are `count` processes."""
        while len(self._workers) < count:
            within_s = self.settings.grace_s + AFTER_GRACE_S
            worker = self._started(self._program("workers", stop_within_s=within_s, number=len(self._workers) + 1))
            for line in self._providers:
                worker.tell(line)
            self._workers.append(worker)
        surplus = self._workers[count:]
        del self._workers[count:]
        await asyncio.gather(*(worker.stop() for worker in surplus), *(worker.spawned() for worker in self._workers))

    def hand_over(self, provider: dict[str, Any]) -> None:
        """Give a provider, key included, to every worker and the scheduler, now and after a restart."""
        line = wire.line(provider)
        self._providers.pop(line, None)
        self._providers[line] = None
        # The scheduler runs the commands of schedules, which need them, too.
        for child in (self._scheduler, *self._workers):
            if child:
                child.tell(line)

    def let_schedules_fire(self) -> None:
        """Schedules fire while somebody has asked for the machinery to stay up."""
        if self._scheduler:
            self._scheduler.tell(wire.line({"schedules": True}))

    async def stop(self) -> None:
        """Stop gracefully: workers finish and save what is in flight while Valkey still serves."""
        served = [child for child in (self._scheduler, *self._workers) if child]
        await asyncio.gather(*(child.stop() for child in served))
        if self._valkey:
            await self._valkey.stop()

    def kill(self) -> None:
        """Stop at once: nothing that they could save has a place any more."""
        for child in self._everybody():
            child.kill()

    def state(self) -> dict[str, Any]:
        """Process id and restarts of every child."""
        return {
            "children": [
                {"name": child.program.name, "pid": child.pid, "restarts": child.restarts}
                for child in self._everybody()
            ]
        }

    def _everybody(self) -> list[Child]:
        return [child for child in (self._valkey, self._scheduler, *self._workers) if child]

    def _program(self, name: str, *, stop_within_s: float, number: int = 0) -> Program:
        """A process of ours; `number` tells its port for metrics from those of the others."""
        port = self.settings.metrics_port
        env = {**self._env, "CORPUSMILL_METRICS_PORT": str(port + number if port else 0)}
        return Program(name, _entry.child_command(name), env, self._place.home, stop_within_s=stop_within_s)

    def _started(self, program: Program) -> Child:
        child = Child(program, self._log_file)
        child.start()
        return child

    async def _until_valkey_answers(self) -> None:
        deadline = asyncio.get_running_loop().time() + VALKEY_WITHIN_S
        while not await valkey.answers(self._sockets):
            if asyncio.get_running_loop().time() > deadline or (self._valkey and self._valkey.restarts > 4):
                raise Unavailable(
                    "the embedded Valkey does not start",
                    where=str(self._place.log),
                    next_step=f"see its last lines; the queue can be made anew: rm -r {self._place.valkey}",
                )
            await asyncio.sleep(0.02)
