"""A child process that is started again when it ends, and ends when its standard input closes.

The pipe to its standard input is the leash: however the supervisor dies, the kernel closes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
# One that lived so long and then died is started again at once, and so is one that left in order to be started anew, as
# a worker does that has grown too large; one that dies young waits longer each time.
STEADY_AFTER_S = 30.0
MOST_LINES = 100


@dataclass(frozen=True)
class Program:
    """What a child runs, and how it is asked to stop: by `stop_signal`, or (None) by closing its input."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    stop_signal: signal.Signals | None = signal.SIGTERM
    stop_within_s: float = 10.0


class Child:
    """One program, kept running until `stop`."""

    def __init__(self, program: Program, log_file: IO[bytes]) -> None:
        self.program = program
        self.restarts = 0
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self._told: list[bytes] = []
        self._spawned = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Keep it running from now on."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def spawned(self) -> None:
        """Wait until it has been started, once."""
        await self._spawned.wait()

    def tell(self, line: bytes) -> None:
        """Write a line to its standard input, now and after each restart; of equal lines the last counts."""
        self._told = [*(known for known in self._told if known != line), line][-MOST_LINES:]
        if self._process:
            self._write(self._process, [line])

    async def stop(self) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        self._stopping.set()
        if self._process and self._process.returncode is None:
            await self._end(self._process)
        if self._task:
            await self._task

    def kill(self) -> None:
        """End it at once, for good; one that is stopped by its input alone has others to stop and is asked."""
        self._stopping.set()
        if self._process and self._process.returncode is None:
            if self.program.stop_signal is not None:
                self._process.kill()
            elif self._process.stdin:
                self._process.stdin.close()

    async def _keep(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            self.restarts += 1
            if code == os.EX_TEMPFAIL or time.monotonic() - started > STEADY_AFTER_S:
                delay_s = FIRST_DELAY_S
            log.warning("child ended name=%s code=%s again_in_s=%.1f", self.program.name, code, delay_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    async def _run_once(self) -> int:
        program = self.program
        # Spawned by the loop, which is the supervisor's main thread, and so lives as long as the supervisor.
        try:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                env=dict(program.env),
                cwd=program.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=self._log_file,
                stderr=self._log_file,
            )
            self._process = process
        finally:
            # In vain as well: nobody shall wait for what will not come.
            self._spawned.set()
        log.info("child started name=%s pid=%d", program.name, process.pid)
        self._write(process, self._told)
        if self._stopping.is_set():
            await self._end(process)
        return await process.wait()

    def _write(self, process: asyncio.subprocess.Process, lines: Sequence[bytes]) -> None:
        if process.stdin and process.returncode is None:
            # A child that died meanwhile is told again when it is started again.
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.writelines(lines)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            if self.program.stop_signal is None and process.stdin:
                process.stdin.close()
            elif self.program.stop_signal is not None:
                process.send_signal(self.program.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.program.stop_within_s)
            except TimeoutError:
                log.warning("child killed name=%s waited_s=%.0f", self.program.name, self.program.stop_within_s)
                process.kill()
