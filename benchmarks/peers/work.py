"""What every client's program shares: the work that it is given, and what it says that it took.

Only Python's own library is used here: a peer's program runs in the peer's own environment.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "sk-bench"


@dataclass(frozen=True, slots=True)
class Work:
    """What to do, and where.

    `texts`: a file with one JSON string a line, a chat message's content or a text to embed. `pack`: texts that
    share an embedding request, where the client lets its user say so. `in_flight`: requests at once, likewise.
    `rpm`, `tpm`: the limit as a user would tell it; 0: none is told. `folder`: for the client's own files.
    `broker`: the URL of a Redis, for a client that wants one. The first `warm_up` texts do not count.
    """

    kind: str
    base_url: str
    model: str
    texts: str
    folder: str
    result: str
    warm_up: int
    in_flight: int
    pack: int = 1
    rpm: int = 0
    tpm: int = 0
    broker: str = ""

    def fresh_folder(self) -> Path:
        """A folder that nothing was kept in yet: clients go on where a folder says that they were."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def packs(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """The texts of each embedding request."""
        return (list(texts[at : at + self.pack]) for at in range(0, len(texts), self.pack))


@dataclass(frozen=True, slots=True)
class Took:
    """What the work took: chunks answered, CPU seconds (ended children included), seconds, the most memory in bytes."""

    answered: int
    cpu_s: float
    wall_s: float
    rss: int


Run = Callable[[Work, Sequence[str]], Coroutine[Any, Any, int]]


def message(text: str) -> list[dict[str, str]]:
    """The messages of one chat request."""
    return [{"role": "user", "content": text}]


def main(run: Run) -> None:
    """Carry out the work that the command line names, and write down what it took. `run` returns chunks answered."""
    work, texts = given()
    if work.warm_up:
        asyncio.run(run(work, texts[: work.warm_up]))
    wall, cpu = time.perf_counter(), cpu_s()
    answered = asyncio.run(run(work, texts[work.warm_up :]))
    tell(work, Took(answered, cpu_s() - cpu, time.perf_counter() - wall, peak_rss()))


def given() -> tuple[Work, list[str]]:
    """The work and its texts."""
    work = Work(**json.loads(sys.argv[1]))
    return work, [json.loads(line) for line in Path(work.texts).read_text(encoding="utf-8").splitlines()]


def tell(work: Work, took: Took) -> None:
    """Write down what it took: standard output belongs to the client, which may print what it likes."""
    Path(work.result).write_text(json.dumps(asdict(took)), encoding="utf-8")


def cpu_s() -> float:
    """User and system seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def peak_rss() -> int:
    """The most memory that was resident, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # not `ru_maxrss`: there a child that was forked begins with what its parent had
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def each_of(items: Sequence[object], in_flight: int, call: Callable[[object], Awaitable[int]]) -> int:
    """Call `call` with every item, so many at once; what it raises counts as not answered."""
    left, answered = iter(items), 0

    async def one_after_the_other() -> None:
        nonlocal answered
        for item in left:
            try:
                count = await call(item)
                answered += count
            except Exception as error:
                print(repr(error)[:200], file=sys.stderr)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    return answered
