"""A command of ours in a fleet without workers, watched from its start to its end: time, CPU, memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks import servers
from benchmarks.machine import cpu_s, rss_of, with_children
from corpusmill._entry import bare_env

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
# Nobody listens there: nothing is sent.
NOBODY = "http://127.0.0.1:9/v1"
SAMPLE_S = 0.2


@dataclass(slots=True)
class Watched:
    """A command from its start to its end: seconds, CPU with all it started, memory of all its processes at a time.

    `said`: the object of `--json`.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    rss: list[int] = field(default_factory=list)
    said: Mapping[str, Any] = field(default_factory=dict)

    def rss_at(self, share: float) -> int:
        """The most memory up to that share of its time."""
        return max(self.rss[: max(1, round(len(self.rss) * share))])


@contextmanager
def database(name: str, folder: Path) -> Iterator[tuple[str, int | None]]:
    """A migrated database: its URL, and the process of its server."""
    if name == SQLITE:
        with servers.sqlite(folder) as url:
            yield url, None
    else:
        with servers.postgres(None) as server:
            yield server.url, server.pid


def environment(home: Path, broker: str, database: str) -> dict[str, str]:
    """What a command needs to find broker, database and an endpoint where nobody is."""
    return {
        **bare_env(os.environ),
        "CORPUSMILL_HOME": str(home / "home"),
        "CORPUSMILL_BROKER_URL": broker,
        "CORPUSMILL_DATABASE_URL": database,
        "CORPUSMILL_PROVIDERS__NOBODY__BASE_URL": NOBODY,
        "CORPUSMILL_PROVIDERS__NOBODY__API_KEY": "sk-bench",
    }


def server_s(pid: int | None) -> float:
    """CPU of PostgreSQL: of its processes that live, and of those that it has seen end, as that of a closed session."""
    if pid is None:
        return 0.0
    ended = psutil.Process(pid).cpu_times()
    return cpu_s(with_children(pid)) + ended.children_user + ended.children_system


def watched(command: Sequence[str], environment: Mapping[str, str]) -> Watched:
    """Run it to its end.

    Raises:
        RuntimeError: it did not end with 0.
    """
    seen, began, before = Watched(), time.perf_counter(), os.times()
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, env=environment, stdout=said) as process:
        while process.poll() is None:
            with suppress(psutil.Error):
                seen.rss.append(sum(map(rss_of, with_children(process.pid))))
            time.sleep(SAMPLE_S)
        seen.wall_s = time.perf_counter() - began
        said.seek(0)
        if "--json" in command and (lines := said.read().splitlines()):
            seen.said = orjson.loads(lines[-1])
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    after = os.times()
    # Those of a child include those of the children that it has waited for.
    seen.cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return seen
