"""Where a worker's CPU goes: sampled from outside by py-spy, and put down to the part that each sample stands in."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PY_SPY = Path(sys.executable).with_name("py-spy")
SAMPLES_A_SECOND = 250
OTHER = "the worker's own code"
# The innermost frame that belongs to one of these decides: what SQLAlchemy does for the ledger is SQL.
PARTS: Mapping[str, tuple[str, ...]] = {
    "client": ("corpusmill/llm/", "corpusmill/replies", "aiohttp/", "pybase64/"),
    "journal": ("workers/journal/", "workers/turn"),
    "SQL": (
        "corpusmill/ledger/",
        "sqlalchemy/",
        "psycopg",
        "workers/writer",
        "workers/batches",
        "workers/ledger_thread",
    ),
    "limiter": ("corpusmill/limits/",),
    "Celery": ("celery/", "kombu/", "workers/asyncpool", "tasks/"),
    "event loop and its sockets": ("workers/loop", "workers/watchdog"),
    OTHER: ("workers/", "corpusmill/"),
}
_FILE = re.compile(r"\(([^()]+?)(?::\d+)?\)$")


@contextmanager
def sampled(pid: int) -> Iterator[Counter[str]]:
    """Sample a process while the block runs; what was found is there once it has ended, nothing if it may not be."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "samples"
        command = [
            str(PY_SPY), "record", "--pid", str(pid), "--format", "raw", "--output", str(out),
            "--rate", str(SAMPLES_A_SECOND), "--nonblocking", "--duration", "3600",
        ]  # fmt: skip
        if not PY_SPY.exists():
            yield found
            return
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as sampler:
            try:
                yield found
            finally:
                sampler.send_signal(signal.SIGINT)
        if out.exists():
            found.update(counted(out.read_text()))


def counted(samples: str) -> Counter[str]:
    """The number of samples of each part. A line is `outer frame;…;inner frame COUNT`."""
    found: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        found[part_of(stack.split(";"))] += int(count)
    return found


def part_of(stack: list[str]) -> str:
    """The part that the innermost frame known to us belongs to."""
    for frame in reversed(stack):
        file = _FILE.search(frame)
        for part, prefixes in PARTS.items():
            if file and any(prefix in file[1] for prefix in prefixes):
                return part
    return OTHER
