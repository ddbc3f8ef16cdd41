"""An embedded run seen from outside: memory and CPU of its processes, and what its queues take in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks.machine import cpu_s, rss_of
from benchmarks.simulator import stats
from corpusmill.app import KEY_PREFIX, SHARD_QUEUES
from corpusmill.embedded import lock
from corpusmill.embedded.place import Place, Sockets

CLI, SUPERVISOR, WORKER, SCHEDULER, VALKEY = "command", "supervisor", "worker", "scheduler", "valkey"
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


class Watcher:
    """Takes samples of the run of `command` in `home` against the endpoint at `base_url`."""

    def __init__(self, command: int, home: Path, base_url: str) -> None:
        self._command, self._place, self._base_url = psutil.Process(command), Place(home), base_url
        self._began = time.monotonic()
        self._peers: dict[str, list[psutil.Process]] = {}

    def sample(self) -> Sample:
        """How it stands now."""
        note = lock.read(self._place.lock)
        peers = self._machinery(note.pid) if note else {}
        peers[CLI] = self._command_and_helpers(note.pid if note else 0)
        return Sample(
            at_s=time.monotonic() - self._began,
            paid=stats(self._base_url)["paid_requests"],
            rss={name: sum(map(rss_of, group)) for name, group in peers.items()},
            cpu_s={name: cpu_s(group) for name, group in peers.items()},
            queue=_queue(Sockets(Path(note.folder)).valkey) if note else Queue(),
        )

    def _command_and_helpers(self, supervisor: int) -> list[psutil.Process]:
        """The command and what it has started to help it count, without the supervisor, which outlives it."""
        with suppress(psutil.Error):
            children = [child for child in self._command.children() if child.pid != supervisor]
            return [self._command, *children, *(each for child in children for each in child.children(recursive=True))]
        return []

    def _machinery(self, supervisor: int) -> dict[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = {name: [] for name in (SUPERVISOR, *_CHILDREN)}
        with suppress(psutil.Error):
            process = psutil.Process(supervisor)
            found[SUPERVISOR] = [process]
            for child in process.children(recursive=True):
                line = child.cmdline()
                for name, word in _CHILDREN.items():
                    if line[-1:] == [word] or (name == VALKEY and Path(line[0]).name.startswith("valkey")):
                        found[name].append(child)
        return found


def _queue(socket: Path) -> Queue:
    with suppress(redis.RedisError), redis.Redis(unix_socket_path=str(socket)) as client:
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
