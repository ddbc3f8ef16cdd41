from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from corpusmill.embedded import valkey
from corpusmill.embedded.children import Child, Program
from corpusmill.embedded.place import Place, Sockets, make_sockets, remove_sockets
from tests.fixtures.shell import PATIENCE_S

ECHO = [sys.executable, "-c", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"]


async def until(claim: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def echo(folder: Path) -> AsyncIterator[tuple[Child, Path]]:
    output = folder / "out"
    with output.open("wb") as file:
        child = Child(Program("echo", ECHO, os.environ, folder), file)
        child.start()
        yield child, output
        await child.stop()


async def test_a_child_that_is_killed_is_started_again_and_told_again(tmp_path: Path) -> None:
    async with echo(tmp_path) as (child, output):
        child.tell(b"one\n")
        await until(lambda: output.read_bytes() == b"one\n")
        first = child.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: output.read_bytes() == b"one\none\n")
        assert child.restarts == 1
        assert child.pid != first


async def test_a_stopped_child_stays_stopped(tmp_path: Path) -> None:
    async with echo(tmp_path) as (child, _):
        await until(lambda: child.pid is not None)
        pid = child.pid
    assert child.pid is None
    assert not psutil.pid_exists(pid or 0)
    assert child.restarts == 0


async def test_a_child_that_does_not_heed_its_signal_is_killed(tmp_path: Path) -> None:
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"
    )
    with (tmp_path / "out").open("wb") as file:
        program = Program("deaf", [sys.executable, "-c", deaf], os.environ, tmp_path, stop_within_s=0.2)
        child = Child(program, file)
        child.start()
        await until(lambda: (tmp_path / "out").read_bytes() == b"deaf\n")
        await child.stop()
    assert child.pid is None


def start_valkey(home: Path, sockets: Sockets) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        valkey.command(Place(home), sockets), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0
    )


def valkey_of(guard: subprocess.Popen[bytes]) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in psutil.Process(guard.pid).children():
            if "valkey-server" in child.name():
                return child
        time.sleep(0.01)
    raise AssertionError("the guard started no Valkey")


async def test_valkey_ends_and_its_folder_goes_when_the_pipe_to_its_guard_closes(tmp_path: Path) -> None:
    sockets = make_sockets()
    guard = start_valkey(tmp_path, sockets)
    server = valkey_of(guard)
    async with asyncio.timeout(PATIENCE_S):
        while not await valkey.answers(sockets):  # noqa: ASYNC110 - another process comes up
            await asyncio.sleep(0.01)
    assert [connection for connection in server.net_connections() if connection.status == "LISTEN"] == []
    assert guard.stdin
    guard.stdin.close()
    guard.wait(PATIENCE_S)
    assert not server.is_running()
    assert not sockets.folder.exists()


async def test_a_killed_guard_takes_valkey_with_it(tmp_path: Path) -> None:
    sockets = make_sockets()
    with start_valkey(tmp_path, sockets) as guard:
        server = valkey_of(guard)
        guard.kill()
        await until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    remove_sockets(sockets.folder)


async def test_a_second_valkey_of_one_home_waits_for_the_first_to_end(tmp_path: Path) -> None:
    one, other = make_sockets(), make_sockets()
    with start_valkey(tmp_path, one) as first:
        assert valkey_of(first).is_running()
        with start_valkey(tmp_path, other) as second:
            assert first.stdin
            assert second.stdin
            assert psutil.Process(second.pid).children() == []
            first.stdin.close()
            assert valkey_of(second).is_running()
            assert first.wait(PATIENCE_S) == 0
            second.stdin.close()
