"""A command and its machinery seen from outside: memory and CPU of the processes, and what the queues take in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import redis

from benchmarks import servers
from benchmarks.machine import cpu_s, ended_s, rss_of, with_children
from benchmarks.simulator import stats
from corpusmill.app import KEY_PREFIX, SHARD_QUEUES
from corpusmill.embedded import lock
from corpusmill.embedded.place import Place, Sockets

COMMAND, SUPERVISOR, WORKER, SCHEDULER = "command", "supervisor", "worker", "scheduler"
VALKEY, POSTGRES = "Valkey", "PostgreSQL"
# How the supervisor's children are known by their command lines.
_CHILDREN = {WORKER: "workers", SCHEDULER: "scheduler", VALKEY: "valkey"}


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits in Redis: messages, the bytes that they take, and all that Redis has allocated."""

    messages: int = 0
    queue_bytes: int = 0
    redis_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment. `paid`: requests that the endpoint has been paid for; memory in bytes and CPU by process name."""

    at_s: float
    paid: int
    rss: Mapping[str, int]
    cpu_s: Mapping[str, float]
    queue: Queue


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that count as one. `ended_s`: CPU seconds of those of them that are over."""

    processes: Sequence[psutil.Process] = ()
    ended_s: float = 0.0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all of them."""
        return cpu_s(self.processes) + self.ended_s


class Machinery(Protocol):
    """What works for a command: its processes by name, as far as they run, and its Redis."""

    def groups(self) -> dict[str, Group]:
        """The processes now."""

    def redis(self) -> redis.Redis | None:
        """A connection, to be closed by the caller; None while there is no Redis."""


class Embedded:
    """What one command in `home` starts for itself."""

    def __init__(self, home: Path) -> None:
        self._place = Place(home)

    def groups(self) -> dict[str, Group]:
        """The supervisor and its children."""
        note = lock.read(self._place.lock)
        found: dict[str, list[psutil.Process]] = {name: [] for name in (SUPERVISOR, *_CHILDREN)}
        if note is None:
            return {}
        with suppress(psutil.Error):
            process = psutil.Process(note.pid)
            found[SUPERVISOR] = [process]
            for child in process.children(recursive=True):
                line = child.cmdline()
                for name, word in _CHILDREN.items():
                    if line[-1:] == [word] or (name == VALKEY and Path(line[0]).name.startswith("valkey")):
                        found[name].append(child)
        return {name: Group(processes) for name, processes in found.items()}

    def redis(self) -> redis.Redis | None:
        """The supervisor's Valkey."""
        note = lock.read(self._place.lock)
        return redis.Redis(unix_socket_path=str(Sockets(Path(note.folder)).valkey)) if note else None


class OnServers:
    """A fleet of one worker and one scheduler; what PostgreSQL has done before is not counted."""

    def __init__(
        self, worker: psutil.Process, scheduler: psutil.Process, broker: servers.Server, database: servers.Server
    ) -> None:
        self._fleet = {WORKER: worker, SCHEDULER: scheduler}
        self._broker, self._database = broker, database
        self._before_s = database.cpu_s()

    def groups(self) -> dict[str, Group]:
        """The fleet's processes and the servers'."""
        fleet = {name: Group(with_children(process.pid), ended_s(process)) for name, process in self._fleet.items()}
        # PostgreSQL's come and go with their connections.
        database = Group(ended_s=self._database.cpu_s() - self._before_s)
        return {**fleet, VALKEY: Group(self._broker.processes()), POSTGRES: database}

    def redis(self) -> redis.Redis | None:
        """The broker."""
        return redis.Redis.from_url(self._broker.url)


class Watcher:
    """Takes samples of `command` at work against the endpoint at `base_url`."""

    def __init__(self, command: int, machinery: Machinery, base_url: str) -> None:
        self._command, self._machinery, self._base_url = psutil.Process(command), machinery, base_url
        self._began = time.monotonic()

    def sample(self) -> Sample:
        """How it stands now."""
        groups = self._machinery.groups()
        groups[COMMAND] = Group(self._command_and_helpers(groups.get(SUPERVISOR, Group()).processes))
        return Sample(
            at_s=time.monotonic() - self._began,
            paid=stats(self._base_url)["paid_requests"],
            rss={name: sum(map(rss_of, group.processes)) for name, group in groups.items()},
            cpu_s={name: group.cpu_s for name, group in groups.items()},
            queue=_queue(self._machinery.redis()),
        )

    def _command_and_helpers(self, supervisor: Sequence[psutil.Process]) -> list[psutil.Process]:
        """The command and what it has started to help it count, without the supervisor, which outlives it."""
        with suppress(psutil.Error):
            children = [child for child in self._command.children() if child not in supervisor]
            return [self._command, *children, *(each for child in children for each in child.children(recursive=True))]
        return []


def _queue(connection: redis.Redis | None) -> Queue:
    if connection is None:
        return Queue()
    with suppress(redis.RedisError), connection as client:
        keys = [KEY_PREFIX + name for name in SHARD_QUEUES]
        return Queue(
            messages=sum(client.llen(key) for key in keys),
            queue_bytes=sum(client.memory_usage(key, samples=0) or 0 for key in [*keys, *_unacked()]),
            redis_bytes=client.info("memory")["used_memory"],
        )
    return Queue()


def _unacked() -> list[str]:
    """Where kombu keeps messages that a worker has taken and not acknowledged."""
    return [KEY_PREFIX + name for name in ("unacked", "unacked_index")]
