"""What each client costs: the same chunks, in turns, each client alone on a core."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.floor import Floor
from benchmarks.hot_path import ENDPOINT, LATENCY_MS, open_fleet
from benchmarks.loads import CHAT
from benchmarks.machine import Cores, Meter, cores, pinned
from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.peers.environments import NotToBeHad, python_of, version_of
from benchmarks.peers.running import LOADS, Failed, Given, carried_out
from benchmarks.peers.work import Took
from benchmarks.report import Section, Table, megabytes, middle, times
from benchmarks.simulator import simulator

FLOOR, OURS = "bare aiohttp and orjson", "corpusmill, everything on"
WARM_UP = 200
KINDS = {"chat": "chat, 300 tokens", "embeddings": "embeddings, 200 tokens"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Chunks a turn for the floor and for us; the peers' are theirs, times `peers`."""

    ours: Mapping[str, int]
    peers: float = 1.0


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that is here."""

    peer: Peer
    python: Path
    version: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one client: what was to be done, and what it took."""

    count: int
    took: Took

    @property
    def cpu_a_thousand(self) -> float:
        """CPU seconds a thousand chunks."""
        return self.took.cpu_s / self.count * 1000

    @property
    def a_second(self) -> float:
        """Chunks a second."""
        return self.count / self.took.wall_s


Turns = Mapping[str, Sequence[Turn]]


def measure(counts: Counts, turns: int) -> Section:
    """All clients, `turns` times one after the other, medians side by side."""
    here, notes = installed(PEERS)
    tables = []
    for kind in KINDS:
        found: dict[str, list[Turn]] = defaultdict(list)
        for _ in range(turns):
            for name, turn in _turn(kind, counts, here, notes):
                found[name].append(turn)
        tables.append(_table(kind, found, here))
    return Section(
        "Beside other clients: cost",
        f"The same chunks against the simulator at {LATENCY_MS} ms, every client alone on one core with the simulator, "
        "the broker and our scheduler on another, nothing limited. "
        f"Medians of {turns} turn{'s' * (turns > 1)}; imports and a warm-up left out. "
        "CPU is that of the client's processes: for us the worker with limiter, journal, ledger on SQLite and Celery "
        "with events; for Celery the worker and the producer. Where a client lets its user say so, 500 chat requests "
        "are in flight, and 1,500 texts share an embedding request; LightRAG sends 10 and the Celery task one. "
        "Each client is driven by a short program of ours in `benchmarks/peers/`; the cookbook-style script is our own "
        "writing of a well-known approach.",
        tables,
        notes=notes,
    )


def installed(peers: Sequence[Peer]) -> tuple[list[Installed], list[str]]:
    """The peers that can be had, and a word about each that cannot."""
    here, notes = [], []
    for peer in peers:
        try:
            python = python_of(peer)
            here.append(Installed(peer, python, version_of(peer, python)))
        except NotToBeHad as error:
            notes.append(f"{peer.name}: not measured, it could not be installed: {error}")
    return here, notes


def _turn(kind: str, counts: Counts, here: Sequence[Installed], notes: list[str]) -> Iterator[tuple[str, Turn]]:
    on, count = cores(), counts.ours[kind]
    with simulator(on.rest, *ENDPOINT) as (base_url, _):
        yield FLOOR, Turn(count, _floor(kind, base_url, count, on))
        yield OURS, Turn(count, _ours(kind, base_url, count, on))
    for each in here:
        if kind not in each.peer.counts:
            continue
        with simulator(on.rest, *ENDPOINT) as (base_url, _):
            try:
                yield each.peer.name, _peer(kind, each, base_url, counts.peers, on)
            except Failed as error:
                notes.append(f"{each.peer.name}, {kind}: failed: {' '.join(str(error).split())[-300:]}")


def _peer(kind: str, each: Installed, base_url: str, share: float, on: Cores) -> Turn:
    peer = each.peer
    pack = peer.pack if kind == "embeddings" else 1
    count = max(pack, int(peer.counts[kind] * share) // pack * pack)
    warm_up = pack * -(-min(WARM_UP, count) // pack)
    given = Given(kind, base_url, count, warm_up, peer.in_flight[kind], pack)
    return Turn(count, carried_out(peer, each.python, given, on))


def _floor(kind: str, base_url: str, count: int, on: Cores) -> Took:
    in_flight = "500" if kind == "chat" else "8"
    command = [sys.executable, "-m", "benchmarks.floor", base_url, kind, str(count), in_flight]
    with pinned(on.measured):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    floor = Floor(**json.loads(done.stdout))
    return Took(floor.count, floor.cpu_s, floor.wall_s, floor.rss)


def _ours(kind: str, base_url: str, count: int, on: Cores) -> Took:
    with (
        tempfile.TemporaryDirectory() as folder,
        servers.sqlite(Path(folder)) as database,
        open_fleet(base_url, Path(folder), database, on) as (fleet, worker),
    ):
        fleet.run(fleet.submit(LOADS[kind], WARM_UP, "warm-up"))
        job = fleet.submit(LOADS[kind], count, "measured")
        with Meter({"worker": [worker]}) as meter:
            fleet.run(job)
        return Took(fleet.ledger.counts(job.id).succeeded, meter.cpu_s["worker"], meter.wall_s, meter.peak("worker"))


def _table(kind: str, found: Turns, here: Sequence[Installed]) -> Table:
    versions = {each.peer.name: f"{each.peer.distribution} {each.version}" for each in here}
    floor, ours = (middle(turn.cpu_a_thousand for turn in found[name]) for name in (FLOOR, OURS))
    rows = []
    for name, turns in found.items():
        cpu = middle(turn.cpu_a_thousand for turn in turns)
        lost = sum(turn.count - turn.took.answered for turn in turns)
        rows.append(
            [
                name, versions.get(name, ""), f"{cpu:.3g}", times(cpu, floor), times(cpu, ours),
                f"{middle(turn.a_second for turn in turns):,.0f}", megabytes(middle(turn.took.rss for turn in turns)),
                f"{lost:,}",
            ]
        )  # fmt: skip
    head = (
        "client", "version", "CPU-s per 1,000", "to the floor", "to ours", "chunks/s", "most memory, MB", "unanswered"
    )  # fmt: skip
    return Table(KINDS[kind], head, rows)


def chat_text() -> str:
    """What one chat request says, as every client sends it."""
    return (CHAT.prompt or "").replace("{text}", next(CHAT.texts(1, "measured")))
