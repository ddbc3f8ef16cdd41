"""What each client makes of a limit: how much of it is used, how often the endpoint refuses, what is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.fleet import Fleet
from benchmarks.loads import CHAT
from benchmarks.machine import cores
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.costs import OURS, Installed, chat_text, installed
from benchmarks.peers.running import Failed, Given, carried_out
from benchmarks.report import Section, Table, middle
from benchmarks.sampling import Watch
from benchmarks.simulator import simulator, stats

RPM, TPM = 6_000, 1_500_000
DEPTHS_S = (2.0, 60.0)
LATENCY_MS = "50"
# A client that is not done after so much longer than the refill that it was given is not waited for.
PATIENCE, PATIENCE_S = 2.0, 45.0


@dataclass(frozen=True, slots=True)
class Used:
    """What a client made of a limit. `answered`: None when it was not waited for until its end."""

    count: int
    paid: int
    share: float
    answered_429: int
    answered: int | None
    paid_twice: int
    seconds: float


def charged() -> float:
    """The tokens that the endpoint charges one request: its characters over four."""
    return len(chat_text()) / 4


def a_second() -> float:
    """Requests a second that the tighter of both limits lets through."""
    return min(RPM, TPM / charged()) / 60


def measure(seconds: float, turns: int) -> Section:
    """All clients at each depth of the bucket, work for the opening bucket and `seconds` more."""
    here, notes = installed([peer for peer in PEERS if peer.limited])
    return Section(
        "Beside other clients: use of a limit",
        f"{RPM:,} RPM and {TPM:,} TPM, of which the requests here ({charged():.0f} tokens charged each) let "
        f"{a_second():.0f} a second through. Every client has one process, is told RPM and TPM where it has a way to "
        f"be told, and gets as much work as the opening bucket and {seconds:.0f} s of refill allow. The share is that "
        "of what bucket and refill allow from the first answer to the last (or to the end of our patience); "
        "unanswered is what the client gave up. "
        f"Medians of {turns} turn{'s' * (turns > 1)}.",
        [_table(depth_s, seconds, turns, here, notes) for depth_s in DEPTHS_S],
        notes=notes,
    )


def _table(depth_s: float, seconds: float, turns: int, here: Sequence[Installed], notes: list[str]) -> Table:
    count = int(a_second() * (depth_s + seconds))
    found: dict[str, list[Used]] = {OURS: [], **{each.peer.name: [] for each in here}}
    for _ in range(turns):
        found[OURS].append(_ours(depth_s, count))
        for each in here:
            found[each.peer.name].append(_peer(each, depth_s, count, PATIENCE * seconds + PATIENCE_S, notes))
    rows = [_row(name, turn) for name, turn in found.items()]
    head = ("client", "share used", "answered 429", "unanswered", "paid twice", "seconds")
    return Table(f"Bucket {depth_s:.0f} s deep, {count:,} requests", head, rows)


def _peer(each: Installed, depth_s: float, count: int, longest_s: float, notes: list[str]) -> Used:
    with _endpoint(depth_s) as base_url, Watch(base_url) as watch:
        given = Given("chat", base_url, count, 0, each.peer.in_flight["chat"], 1, RPM, TPM, longest_s)
        try:
            answered: int | None = carried_out(each.peer, each.python, given, cores()).answered
        except Failed as error:
            answered = None
            notes.append(f"{each.peer.name}, bucket {depth_s:.0f} s deep: {' '.join(str(error).split())[-200:]}")
        return _used(watch, base_url, depth_s, count, answered)


def _ours(depth_s: float, count: int) -> Used:
    on = cores()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base_url = stack.enter_context(_endpoint(depth_s))
        database = stack.enter_context(servers.sqlite(home))
        broker = stack.enter_context(servers.valkey(home, on.rest))
        fleet = Fleet(home, broker.url, database, base_url, on, rpm=RPM, tpm=TPM, burst_s=int(depth_s))
        stack.callback(fleet.close)
        stack.enter_context(fleet.scheduler())
        stack.enter_context(fleet.worker(on.measured))
        job = fleet.submit(CHAT, count, "measured")
        with Watch(base_url) as watch:
            fleet.run(job)
        return _used(watch, base_url, depth_s, count, fleet.ledger.counts(job.id).succeeded)


@contextmanager
def _endpoint(depth_s: float) -> Iterator[str]:
    limit = ("--rpm", str(RPM), "--tpm", str(TPM), "--depth-s", str(depth_s))
    with simulator(cores().rest, "--latency-ms", LATENCY_MS, *limit) as (base_url, _):
        yield base_url


def _used(watch: Watch, base_url: str, depth_s: float, count: int, answered: int | None) -> Used:
    now = stats(base_url)
    paid = now["paid_requests"]
    # One that was not waited for had all the time that it was given, whenever its last answer came.
    until = watch.seen[-1][0] if answered is None else watch.reached("paid_requests", paid)
    seconds = until - watch.reached("paid_requests", min(1, paid))
    share = paid / (a_second() * (depth_s + seconds))
    return Used(count, paid, share, now["answered_429"], answered, now["duplicates_paid"], seconds)


def _row(name: str, turns: Sequence[Used]) -> list[str]:
    ended = [turn.count - turn.answered for turn in turns if turn.answered is not None]
    return [
        name, f"{middle(turn.share for turn in turns):.3f}", f"{middle(turn.answered_429 for turn in turns):,.0f}",
        f"{middle(ended):,.0f}" if ended else f"not waited for, {turns[0].paid:,} paid",
        f"{middle(turn.paid_twice for turn in turns):,.0f}", f"{middle(turn.seconds for turn in turns):.0f}",
    ]  # fmt: skip
