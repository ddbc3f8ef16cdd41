"""How soon work goes on after a death, a restart or a pause, at default settings: real processes, figures printed.

pytest -m slow -s tests/integration/test_recovery.py
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Mapping
from statistics import median

import pytest
from sqlalchemy import select

from corpusmill.errors import Unavailable
from corpusmill.ledger.models import Shard
from corpusmill.ledger.records import JobView
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.postgres import Postgres
from tests.fixtures.simulator import StartSimulator

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("recovery"), pytest.mark.timeout(600)]

LEASE_S = 30.0
KILLS = 10
BETWEEN_S = 8.0
RPM = 3_000


def shards(fleet: Fleet, job: JobView) -> Mapping[int, tuple[str | None, int, float | None, bool]]:
    """Owner, fence, when it was sent, and whether it is done, by number."""
    asked = select(Shard.shard_no, Shard.owner, Shard.fence, Shard.sent_at, Shard.done).where(Shard.job_id == job.id)
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in fleet.ledger._db.read(lambda c: c.execute(asked).all())}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.fault(1)
def test_shards_of_a_killed_worker_are_sent_again_when_their_lease_is_over(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    limits = {"rpm": RPM, "tpm": 0}
    fleet = start_fleet(simulator(latency_ms=200, rpm=RPM), postgres_url, lease_s=LEASE_S, limits=limits)
    fleet.scheduler()
    workers = [fleet.worker() for _ in range(2)]
    job = fleet.complete([f"chunk number {number}" for number in range(9_000)], shard_size=20)
    wait_until(lambda: fleet.counts(job).succeeded > 50)

    lost: dict[tuple[int, int], float] = {}
    sent_again: dict[tuple[int, int], float] = {}
    claimed_again: dict[tuple[int, int], float] = {}
    kills, kill_at = 0, 0.0
    while kills < KILLS or len(claimed_again) < len(lost):
        now = time.monotonic()
        rows = shards(fleet, job)
        for (number, fence), at in lost.items():
            owner, newer, sent_at, done = rows[number]
            again = newer > fence or done
            if again or (owner is None and sent_at is not None):
                sent_again.setdefault((number, fence), now - at)
            if again:
                claimed_again.setdefault((number, fence), now - at)
        if kills < KILLS and now >= kill_at:
            victim = workers.pop(0)
            victim.kill()
            killed = time.monotonic()
            mark = f":{victim.pid}:"
            rows = shards(fleet, job)
            lost |= {(no, row[1]): killed for no, row in rows.items() if row[0] and mark in row[0] and not row[3]}
            workers.append(fleet.start("workers"))
            kills, kill_at = kills + 1, time.monotonic() + BETWEEN_S
        time.sleep(0.1)
        assert fleet.state(job) == "running"
    # What two workers have died over is on trial: it waits until one can run it alone.
    deaths = Counter(number for number, _ in lost)
    once = [took for (number, _), took in claimed_again.items() if deaths[number] == 1]
    more = [took for (number, _), took in claimed_again.items() if deaths[number] > 1]
    sent = list(sent_again.values())
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(f"\n{KILLS} kills, {len(lost)} shards, {twice} paid twice")
    for what, times in (("sent", sent), ("lost once, claimed", once), ("lost more than once, claimed", more)):
        if times:
            spread = f"p95 {percentile(times, 0.95):.1f}, longest {max(times):.1f}"
            print(f"{what} again ({len(times)}): median {median(times):.1f} s, {spread}")
    assert percentile(sent, 0.95) < LEASE_S + 3


@pytest.mark.fault(19)
def test_a_lane_that_is_paused_elsewhere_is_heard_of_within_a_second(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=100), postgres_url, lease_s=LEASE_S, window=20)
    fleet.scheduler()
    fleet.worker()
    fleet.worker()
    job = fleet.complete([f"chunk number {number}" for number in range(9_000)], shard_size=50)
    heard = []
    for _ in range(5):
        before = fleet.counts(job).succeeded
        wait_until(lambda before=before: fleet.counts(job).succeeded > before + 100)  # type: ignore[misc]
        fleet.ledger.pause_lane(fleet.endpoint, job.key_fingerprint, "billing", None)
        told = time.monotonic()
        last, requests = told, fleet.simulator.stats()["requests"]
        while time.monotonic() - told < 2.5:
            time.sleep(0.02)
            if (now := fleet.simulator.stats()["requests"]) > requests:
                last, requests = time.monotonic(), now
        heard.append(last - told)
        fleet.ledger.resume(job.id)
    print(f"\nlane paused in SQL: last request after {', '.join(f'{each:.2f}' for each in heard)} s")
    assert median(heard) < 1.0


@pytest.mark.fault(6)
def test_work_goes_on_within_seconds_of_a_restart_of_redis(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    limits = {"rpm": RPM, "tpm": 0}
    fleet = start_fleet(simulator(latency_ms=100, rpm=RPM), postgres_url, lease_s=LEASE_S, limits=limits)
    fleet.scheduler()
    fleet.worker()
    fleet.worker()
    job = fleet.complete([f"chunk number {number}" for number in range(4_000)], shard_size=20)
    after = []
    for _ in range(3):
        wait_until(lambda: fleet.counts(job).succeeded > 100)
        fleet.broker.kill()
        time.sleep(2)
        fleet.broker.start()
        back = time.monotonic()
        claims = sum(row[1] for row in shards(fleet, job).values())
        requests = fleet.simulator.stats()["requests"]
        wait_until(lambda requests=requests: fleet.simulator.stats()["requests"] > requests)  # type: ignore[misc]
        sends = time.monotonic() - back
        wait_until(lambda claims=claims: sum(row[1] for row in shards(fleet, job).values()) > claims, 60)  # type: ignore[misc]
        after.append((sends, time.monotonic() - back))
    told = ", ".join(f"{sends:.1f}/{claims:.1f}" for sends, claims in after)
    print(f"\nRedis away for 2 s, its queues lost: next request/next shard claimed after {told} s")
    assert max(sends for sends, _ in after) < 5


@pytest.mark.fault(12)
def test_work_goes_on_within_seconds_of_a_restart_of_postgresql(
    start_fleet: StartFleet, simulator: StartSimulator, own_postgres: Postgres
) -> None:
    limits = {"rpm": RPM, "tpm": 0}
    fleet = start_fleet(simulator(latency_ms=100, rpm=RPM), own_postgres.url, lease_s=LEASE_S, limits=limits)
    fleet.scheduler()
    fleet.worker()
    fleet.worker()
    job = fleet.complete([f"chunk number {number}" for number in range(2_500)], shard_size=20)
    after = []
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGQUIT):
        wait_until(lambda: (claims(fleet, job) or 0) > 0)
        more_saved(fleet, job, 100)
        own_postgres.stop(how)
        time.sleep(2)
        own_postgres.start()
        back = time.monotonic()
        wait_until(lambda: claims(fleet, job) is not None)
        claimed = claims(fleet, job) or 0
        more_saved(fleet, job)
        saves = time.monotonic() - back
        wait_until(lambda claimed=claimed: (claims(fleet, job) or 0) > claimed)  # type: ignore[misc]
        after.append((saves, time.monotonic() - back))
    told = ", ".join(f"{saves:.1f}/{claimed:.1f}" for saves, claimed in after)
    assert fleet.wait(job).succeeded == 2_500
    twice = fleet.simulator.stats()["duplicates_paid"]
    print(f"\nPostgreSQL away for 2 s: next result saved/next shard claimed after {told} s; {twice} paid twice")
    assert max(saves for saves, _ in after) < 5
    assert twice == 0


def more_saved(fleet: Fleet, job: JobView, more: int = 0) -> None:
    """Wait until more results are in the ledger."""
    before = fleet.counts(job).succeeded
    wait_until(lambda: fleet.counts(job).succeeded > before + more)


def claims(fleet: Fleet, job: JobView) -> int | None:
    """How many claims there were; None while the database is away."""
    try:
        return sum(row[1] for row in shards(fleet, job).values())
    except Unavailable:
        return None
