"""One client's program carried out once, on a core of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.machine import Cores, pinned
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.environments import ROOT, environment
from benchmarks.peers.work import Took, Work

LOADS = {"chat": CHAT, "embeddings": EMBEDDINGS}
LONGEST_S = 300.0


class Failed(Exception):
    """A client's program did not carry out the work; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a program is given to do. `longest_s`: after so long it is ended."""

    kind: str
    base_url: str
    count: int
    warm_up: int
    in_flight: int
    pack: int = 1
    rpm: int = 0
    tpm: int = 0
    longest_s: float = LONGEST_S


def carried_out(peer: Peer, python: Path, given: Given, on: Cores) -> Took:
    """Let `peer` do it.

    Raises:
        Failed: it ended in an error, or not in time.
    """
    with ExitStack() as stack:
        # Not what the client keeps there: deleting may fail while a process of the client still writes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        broker = stack.enter_context(servers.valkey(folder, on.rest)).url if peer.distribution == "celery" else ""
        load = LOADS[given.kind]
        texts, result = folder / "texts.jsonl", folder / "took.json"
        texts.write_text("".join(json.dumps(text) + "\n" for text in _texts(load, given)), encoding="utf-8")
        work = Work(
            given.kind, given.base_url, load.model, str(texts), str(folder), str(result), given.warm_up,
            given.in_flight, given.pack, given.rpm, given.tpm, broker,
        )  # fmt: skip
        command = [str(python), "-m", peer.program[0], json.dumps(asdict(work)), *peer.program[1:]]
        said = _run(command, folder, given.longest_s, on.measured)
        if not result.exists():
            raise Failed(said)
        return Took(**json.loads(result.read_text()))


def _texts(load: Load, given: Given) -> Iterable[str]:
    """The texts as a request has them, the prompt around them where there is one."""
    for series, count in (("warm-up", given.warm_up), ("measured", given.count)):
        for text in load.texts(count, series):
            yield load.prompt.replace("{text}", text) if load.prompt else text


def _run(command: list[str], folder: Path, longest_s: float, core: int | None) -> str:
    """Carry out a command in a session of its own; the end of what it said."""
    log = folder / "said"
    with log.open("wb") as said, pinned(core):
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment(folder), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
    with child:
        try:
            child.wait(longest_s)
        except subprocess.TimeoutExpired:
            return f"not done after {longest_s:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    return log.read_text(encoding="utf-8", errors="replace")[-600:]
