"""Disks that fill up under a running job: the work is kept, a person is told, it goes on when there is room."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from corpusmill.ledger.records import JobView
from tests.acceptance.machinery import fresh_home
from tests.fixtures.disk import StartDisk
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.shell import Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("full-disks"), pytest.mark.timeout(300)]

ITEMS = 600
WINDOW = 20
LEASE_S = 3.0


def texts() -> list[str]:
    return [f"chunk number {number} " + "of the mill " * 20 for number in range(ITEMS)]


def requests(simulator: Simulator) -> int:
    sent: int = simulator.stats()["requests"]
    return sent


def settled(simulator: Simulator, still_s: float = 2.0) -> int:
    """How many requests there are once none has come for so long."""
    seen, since = requests(simulator), time.monotonic()
    while time.monotonic() - since < still_s:
        time.sleep(0.1)
        if (now := requests(simulator)) != seen:
            seen, since = now, time.monotonic()
    return seen


def in_the_middle(simulator: Simulator) -> int:
    wait_until(lambda: requests(simulator) > 100)
    return requests(simulator)


@pytest.mark.fault(15)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_ledger_whose_disk_is_full_for_longer_than_a_lease_loses_nothing_and_goes_on_when_there_is_room(
    workers: int, start_fleet: StartFleet, simulator: StartSimulator, small_disk: StartDisk
) -> None:
    disk = small_disk("32m")
    fleet = start_fleet(simulator(latency_ms=200), f"sqlite:///{disk.path}/ledger.db", window=WINDOW, lease_s=LEASE_S)
    fleet.scheduler()
    for _ in range(workers):
        fleet.worker()
    job = fleet.complete(texts(), shard_size=20)
    before = in_the_middle(fleet.simulator)
    disk.fill()
    wait_until(lambda: "the ledger's disk is full" in fleet.log(), what="word of the full disk")
    wasted = settled(fleet.simulator, 2 * LEASE_S) - before
    assert all(process.poll() is None for process in fleet.processes)
    disk.make_room()
    before, started = requests(fleet.simulator), time.monotonic()
    wait_until(lambda: resumed(fleet, job) and requests(fleet.simulator) > before)
    went_on_s = time.monotonic() - started
    wait_until(lambda: resumed(fleet, job) and fleet.state(job) == "finished")
    assert fleet.wait(job).succeeded == ITEMS
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(
        f"\nledger's disk full, {workers} workers: {wasted} more sent, kept; went on {went_on_s:.1f} s after there was "
        f"room; {twice} paid twice"
    )
    assert twice == 0


def resumed(fleet: Fleet, job: JobView) -> bool:
    """The job is not paused: where the ledger could still take that it is, a person has to resume it."""
    if fleet.state(job) == "paused:disk":
        fleet.ledger.resume(job.id)
    return True


@pytest.mark.fault(16)
def test_a_journal_whose_disk_is_full_pauses_the_job_and_what_was_in_flight_is_kept(
    start_fleet: StartFleet, simulator: StartSimulator, small_disk: StartDisk, postgres_url: str
) -> None:
    disk = small_disk("100m")
    fleet = start_fleet(simulator(latency_ms=200), postgres_url, window=WINDOW, lease_s=LEASE_S)
    fleet.scheduler()
    fleet.worker(home=disk.path)
    job = fleet.complete(texts(), shard_size=20)
    before = in_the_middle(fleet.simulator)
    disk.fill()
    wait_until(lambda: fleet.state(job) == "paused:disk")
    wasted = settled(fleet.simulator) - before
    note = fleet.ledger.job(job.id).note
    assert note is not None
    assert "journal" in note
    wait_until(lambda: fleet.counts(job).succeeded == fleet.simulator.stats()["paid_requests"], what="all in flight")

    disk.make_room()
    fleet.ledger.resume(job.id)
    assert fleet.wait(job).succeeded == ITEMS
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(f"\njournal's disk full: {wasted} more sent, kept; {twice} paid twice")
    assert wasted <= 2 * WINDOW
    assert twice == 0


@pytest.mark.fault(15)
@pytest.mark.fault(16)
def test_on_one_machine_the_command_ends_with_74_and_goes_on_where_it_was_once_there_is_room(
    simulator: StartSimulator, small_disk: StartDisk
) -> None:
    disk = small_disk("200m")
    with fresh_home(disk.path, window=WINDOW) as shell:
        endpoint = shell.connect(simulator(latency_ms=200))
        lines = "".join(f'{{"id": "i{number}", "text": "{text}"}}\n' for number, text in enumerate(texts()))
        shell.write("items.jsonl", lines)
        command = ("complete", "items.jsonl", "--prompt", "Say", "--model", "gpt-6-luna", "--out", "x.jsonl", "--json")
        running = shell.start(*command)
        until(lambda: requests(endpoint) > 100)
        disk.fill(leave_bytes=32 << 20)
        stopped = shell.finish(running)
        assert (stopped.code, stopped.object["state"], stopped.object["reason"]) == (74, "paused", "disk"), str(stopped)
        assert "make room, then: corpusmill" in stopped.err
        assert "Traceback" not in stopped.err

        disk.make_room()
        done = shell.run(*command)
        assert (done.code, done.object["succeeded"]) == (0, ITEMS), str(done)
        assert len(shell.lines("x.jsonl")) == ITEMS
        twice = endpoint.stats()["duplicates_paid"]
        print(f"\nHOME's disk full: paused after {stopped.object['succeeded']} of {ITEMS} items, {twice} paid twice")
        assert twice == 0
        assert_verified(shell)


def assert_verified(shell: Shell) -> None:
    assert shell.ok("verify", "last")["ok"]
    assert shell.run("down").code == 0
    assert list(Path(shell.home / "journal").iterdir()) == []
